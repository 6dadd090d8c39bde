"""``python -m streamdrift`` is ``streamdrift``."""

from streamdrift.cli import main

main()
