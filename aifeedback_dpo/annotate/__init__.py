"""Votes of real people on the pairs of a run, given on a local web page.

journal.py     SQLite: what was shown, answered and undone; a confirmed vote survives a kill
study.py       the settings of a study, and everything in it that is drawn by seed
assignment.py  who sees which pair next: overlap, repeats, attention pairs, undo
person.py      one person's place in the study
pictures.py    pictures without metadata, under addresses that tell nothing
guard.py       what no request gets past: host, origin, size, invitation
page.py        the web page
serve.py       the page on a port, until Ctrl-C
ballots.py     journal -> table `votes` -> preferences of judge `human`
report.py      how people agree, with each other and with themselves, and whether they look
"""
