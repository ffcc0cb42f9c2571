"""The words of a page as a reader meets them, its elements and its links."""

import re
from html.parser import HTMLParser


class Words(HTMLParser):
    """What is read on a page, the elements it has, and where they lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.kinds, self.links, self.ids, self.silent = [], [], [], [], False
        self.feed(text)
        self.said = re.sub(r"\s+", " ", " ".join(self.words))  # non-breaking spaces as well

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self.kinds.append(tag)
        self.links += [told[key] for key in ("src", "href") if told.get(key)]
        self.ids += [told["id"]] if "id" in told else []
        self.silent = tag in ("style", "script", "title")
        if tag == "img":
            assert told["alt"] is not None

    def handle_endtag(self, tag):
        self.silent = False

    def handle_data(self, data):
        if not self.silent:
            self.words.append(data)
