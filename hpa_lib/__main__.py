"`python -m hpa_lib` is the `hpa` command"
from hpa_lib.cli import main

raise SystemExit(main())
