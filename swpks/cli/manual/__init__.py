"""The manual pages, made from the command line's tree and from the pages of spec/."""

# How the manual is made
#
# A manual page that is written by hand is wrong at the next change of an option.  So no page has a list of
# its own:
#
#   section 1    a page for each command of `swpks`: options, operands and verbs from the parser's tree
#                (swpks/cli/words.py), description, examples and exit status from the parser's description
#   section 5    swpks.toml from spec/service.md, swpks-frames from spec/protocol.md
#   section 7    the overview: its prose is in overview.py, its lists are those of the commands and of spec/
#
# By hand are only the facts that neither has: files, environment, references to other pages (prose.py).
#
# The room is pure, so a test needs no file: `collected.py` alone reads the parser and the pages.  The result
# depends on nothing else.  It has no date of its build, no path, and no width of a terminal: a wheel is the
# same wherever it is built.  For that reason a usage of argparse is not copied: it depends on COLUMNS and on
# the release of Python.
#
# The language is mdoc(7): mandoc checks it, and both mandoc and groff show it.  Pages of spec/ are Markdown;
# markdown.py reads the part of it that they use.  Running text gets fonts by escapes and not by macros,
# because a macro ends a line, and punctuation would be its argument.  Tables are those of tbl(1): a list of
# mdoc has no columns that wrap.
#
# Dropped: groff's man macros (they have no meaning that a reader such as `apropos Fl=--state` could find),
# pandoc (a dependency of 150 MB), and a command that prints a page (`man` does).
