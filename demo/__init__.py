"""`make demo`: the main job of the product on this machine, told in plain words and checked as it goes.

`shop` builds a node with a small shop on it, `clients` sends requests and keeps its own counts, `chapters` and
`traffic` tell the story one claim at a time, `story` prints and remembers whether every claim held.
"""
