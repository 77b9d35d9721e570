"""corpus_text.py - documents of clean text from the files of Debian packages: html, xml (DocBook, Mallard), man, pod, text, fortune, dict, wordnet, code.

extract(format, path, root) gives [(suffix, text)]: suffix is "" or "#N" when one file holds many documents.  What is navigation, markup or
control is left out; what cannot be read raises ValueError.  Nothing depends on time, locale or the order of a folder.
Used by fetch_corpus.py, tested by tests/test_corpus.py.  Only the standard library.
"""
import glob
import gzip
import hashlib
import html
import os
import re
import unicodedata
from html.entities import name2codepoint
from html.parser import HTMLParser
from xml.parsers import expat

GROUP_CHARS = 4000  # entries of dictionaries and fortunes are joined to documents of about this length
LONGEST_CODE_LINE = 2000  # longer ones are generated tables

# ---- all formats -----------------------------------------------------------------------------------------------------
CONTROL = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff\ufffe\uffff\ud800-\udfff]')


def read(path):
    with (gzip.open if path.endswith(('.gz', '.dz')) else open)(path, 'rb') as f:
        data = f.read()
    try:
        return data.decode('utf-8-sig')
    except UnicodeDecodeError:
        return data.decode('iso-8859-1')


def clean(text):
    """NFC, LF, no control characters or soft hyphens, no blanks at line ends, at most one blank line."""
    text = text.replace('\r\n', '\n').replace('\r', '\n').replace('\f', '\n').replace('\xa0', ' ')
    text = unicodedata.normalize('NFC', CONTROL.sub('', text))
    text = re.sub(r'[ \t]+\n', '\n', text + '\n')
    return re.sub(r'\n{3,}', '\n\n', text).strip('\n')


def grouped(entries):
    """Entries joined with a blank line to documents of about GROUP_CHARS."""
    documents, part, size = [], [], 0
    for entry in entries:
        entry = clean(entry)
        if not entry.strip():
            continue
        part.append(entry)
        size += len(entry)
        if size >= GROUP_CHARS:
            documents.append('\n\n'.join(part))
            part, size = [], 0
    if part:
        documents.append('\n\n'.join(part))
    return [('#%d' % (i + 1), d) for i, d in enumerate(documents)]


# ---- html and xml ----------------------------------------------------------------------------------------------------
SKIPPED = set('''script style head header nav footer noscript form button select textarea svg template iframe object audio video
    info bookinfo articleinfo refentryinfo indexterm index toc remark comment credit license desc keywordset abstractinfo sect1info
    screeninfo shortcut authorgroup copyright legalnotice releaseinfo pubdate imageobject'''.split())
PARAGRAPH = set('''p div h1 h2 h3 h4 h5 h6 ul ol dl table blockquote section article body pre hr address main figure center
    page title steps list terms note screen code-block listing para simpara formalpara itemizedlist orderedlist variablelist procedure
    sect1 sect2 sect3 sect4 chapter book preface appendix glossary glossentry informaltable programlisting literallayout
    tip warning caution important qandaentry question answer refsect1 refsect2 example'''.split())
LINE = set('br li dt dd tr caption item listitem varlistentry term step row entry-row thead tbody glossterm glossdef'.split())
CELL = {'td', 'th', 'entry'}
SEQUENCE = {'keycombo': '+', 'keyseq': '+', 'menuchoice': ' → ', 'guiseq': ' → '}  # what stands between their parts
VERBATIM = {'pre', 'screen', 'programlisting', 'literallayout', 'code-block'}
VOID = set('br hr img meta link input col area base wbr param source embed track'.split())
LINK = {'a', 'link', 'xref', 'ulink'}
CLOSES = {'li': {'li'}, 'dt': {'dt', 'dd'}, 'dd': {'dt', 'dd'}, 'tr': {'tr', 'td', 'th'}, 'td': {'td', 'th'}, 'th': {'td', 'th'}}
SCOPE = {'ul', 'ol', 'dl', 'table', 'body'}
NAVIGATION_CLASS = re.compile(r'^(nav.*|toc.*|.*-toc|breadcrumbs?|sphinxsidebar.*|related|headerlink|footer.*|header|docnav|menu(bar|-comment)?|(top|bottom)lang|'
                              r'qv|quickview|chlink.*|lang(s|uages?)?|skip.*|searchbar|copyright|list-of-.*|revhistory|sidebar.*|permalink|'
                              r'(full|lot)toc.*|copiable-(anchor|link)|footnotes?_and_docs|switch|collapse|MAC)$')  # MAC: LibreOffice's second name of a key
NAVIGATION_ID = {'quickview', 'languages', 'tocframe', 'footer', 'footerMenu', 'pageHeader', 'searchbar', 'sidebar', 'navigation', 'highlighting-settings'}
NAVIGATION_NAME = re.compile(r'(^|/)((gen|py-mod|doc|book)?index-?all|genindex.*|search|toc|contents|.*big-page.*|sitemap\w*)(\.[\w-]+)*$', re.I)
# private characters carry what must survive the folding of blanks: space and line end of verbatim text, start and end of a link, border of a line
PRE_SPACE, PRE_LINE, LINK_ON, LINK_OFF, BORDER = '\ue000', '\ue001', '\ue002', '\ue003', '\ue004'


def fold(parts):
    text = re.sub(r'\s*' + BORDER + r'[\s' + BORDER + ']*', lambda m: '\n\n' if '\n\n' in m[0] else '\n', ''.join(parts))
    text = re.sub(r'[ \t]*\n[ \t]*', '\n', re.sub(r' *\t *', '\t', re.sub(r' +', ' ', text)))
    return re.sub(r'\n{3,}', '\n\n', text).strip()


class Collector:
    """Receives elements and text, keeps what a reader would read.  root: (attribute, value) of the only element that counts, or None."""

    def __init__(self, root):
        self.root, self.inside, self.done = root, 0 if root else 1, False
        self.stack = []  # (tag, skipped, verbatim, was root, buffer before a cell or sequence)
        self.skip = self.verbatim = 0
        self.out = []

    def start(self, tag, attributes, implied_ends):
        if implied_ends:
            self.close_implied(tag)
        if tag in VOID and implied_ends:
            if tag in ('br', 'hr'):
                self.mark('\n' if tag == 'br' else '\n\n')
            return
        is_root = bool(self.root and not self.inside and attributes.get(self.root[0]) == self.root[1])
        skipped = not is_root and (tag in SKIPPED or (tag not in ('html', 'body') and (
            any(NAVIGATION_CLASS.match(c) for c in (attributes.get('class') or '').split()) or
            attributes.get('id') in NAVIGATION_ID or attributes.get('role') in ('navigation', 'search', 'banner', 'contentinfo', 'trans') or attributes.get('aria-hidden') == 'true')))
        if is_root:
            self.inside, self.skip = 1, 0
        self.skip += skipped
        self.mark('\n\n' if tag in PARAGRAPH else BORDER if tag in LINE else LINK_ON if tag in LINK else '')
        before = None
        if (tag in CELL or tag in SEQUENCE) and not self.skip:
            before, self.out = self.out, []
        verbatim = tag in VERBATIM
        self.verbatim += verbatim
        self.stack.append((tag, skipped, verbatim, is_root, before))

    def close_implied(self, tag):
        if tag in CLOSES:
            for name, *_ in reversed(self.stack):
                if name in SCOPE and name != tag:
                    return
                if name in CLOSES[tag]:
                    self.end(name)
                    return
        elif tag in PARAGRAPH and self.stack and self.stack[-1][0] == 'p':
            self.end('p')

    def end(self, tag):
        if not any(entry[0] == tag for entry in self.stack):
            return
        while True:
            name, skipped, verbatim, is_root, before = self.stack.pop()
            self.verbatim -= verbatim
            if before is not None:
                cell, self.out = self.out, before
                if name in SEQUENCE:
                    self.out.append(SEQUENCE[name].join(part.strip() for part in cell if part.strip()))
                else:
                    cell = fold(cell)
                    self.out.append('\n\n' + cell + '\n\n' if '\n' in cell else cell + '\t')  # a cell of many lines is layout, not a table
            self.mark('\n\n' if name in PARAGRAPH else BORDER if name in LINE else LINK_OFF if name in LINK else '')
            self.skip -= skipped
            if is_root:
                self.inside, self.done = 0, True
            if name == tag:
                return

    def mark(self, what):
        if self.inside and not self.skip and what:
            self.out.append(what)

    def data(self, text):
        if self.inside and not self.skip:
            if self.verbatim:
                text = text.replace('\r\n', '\n').replace('\t', '        ').replace(' ', PRE_SPACE).replace('\n', PRE_LINE)
            else:
                text = re.sub(r'\s+', ' ', text)
            self.out.append(text)

    def text(self):
        """The text, or "" when most of it is links: contents, indices."""
        while self.stack:
            self.end(self.stack[-1][0])
        kept, pending, n_links, letters, linked = [], [], 0, 0, 0
        for paragraph in fold(self.out).split('\n\n'):
            links = re.findall(LINK_ON + '([^' + LINK_OFF + ']*)' + LINK_OFF, paragraph)
            plain = re.sub('[' + LINK_ON + LINK_OFF + ']', '', paragraph)
            n, n_linked = sum(map(str.isalnum, plain)), sum(map(str.isalnum, ''.join(links)))
            letters += n
            linked += n_linked
            if n_linked > 0.8 * n:  # nothing but links: stays only where there are few in a row
                pending.append(plain)
                n_links += len(links)
                continue
            if n_links < 3:
                kept += pending
            pending, n_links = [], 0
            if n:  # not only rules and bullets
                kept.append(plain)
        if n_links < 3:
            kept += pending
        if linked > 0.6 * letters:
            return ''
        return '\n\n'.join(kept).translate({ord(PRE_SPACE): ' ', ord(PRE_LINE): '\n'})


class HtmlReader(HTMLParser):
    def __init__(self, collector):
        super().__init__(convert_charrefs=True)
        self.to = collector

    def updatepos(self, i, j):
        return j  # nobody asks for lines: a tenth of the time

    def handle_starttag(self, tag, attributes):
        self.to.start(tag, dict(attributes), True)

    def handle_startendtag(self, tag, attributes):
        self.to.start(tag, dict(attributes), True)
        if tag not in VOID:
            self.to.end(tag)

    def handle_endtag(self, tag):
        self.to.end(tag)

    def handle_data(self, text):
        self.to.data(text)


def extract_html(path, root):
    if NAVIGATION_NAME.search(path):
        return []
    collector = Collector(tuple(root.split('=', 1)) if root else None)
    reader = HtmlReader(collector)
    text = re.sub(r'<\?.*?\?>', '', read(path))
    for at in range(0, len(text), 16384):
        if collector.done:
            break  # what follows the root is often the contents of a whole book, on every page
        reader.feed(text[at:at + 16384])
    reader.close()
    return [('', clean(collector.text()))]


NAMES = {'kde': 'KDE', 'kappname': 'Kate', 'X-Window': 'X Window System', 'etc': '...', 'eg': 'e.g.', 'ie': 'i.e.'}


def entity_text(name):
    """KDE's documents name programs, keys and people by entities of a DTD elsewhere: &kate; is Kate, &Ctrl; Ctrl, &underFDL; a notice."""
    if re.search(r'(Notice|under[A-Z]|\.mail$|install\.|documentation\.index|reporting\.)', name):
        return ''
    if name in name2codepoint:
        return chr(name2codepoint[name])
    return NAMES.get(name) or (name.capitalize() if name.islower() else name.replace('.', ' '))


def extract_xml(path, root):
    collector = Collector(tuple(root.split('=', 1)) if root else None)
    reader = expat.ParserCreate()
    reader.UseForeignDTD(True)  # entities that are not declared are then skipped, not errors
    reader.ExternalEntityRefHandler = lambda *_: 1
    reader.SkippedEntityHandler = lambda name, parameter: None if parameter else collector.data(entity_text(name))
    local = lambda tag: tag.rsplit(':', 1)[-1].lower()
    reader.StartElementHandler = lambda tag, attributes: collector.start(local(tag), attributes, False)
    reader.EndElementHandler = lambda tag: collector.end(local(tag))
    reader.CharacterDataHandler = collector.data
    reader.buffer_text = True
    text = re.sub(r'^\s*<\?xml.*?\?>', '', read(path))
    try:
        reader.Parse(text, True)
    except expat.ExpatError as e:
        raise ValueError('%s: no well-formed XML: %s' % (path, e)) from None
    return [('', clean(collector.text()))]


# ---- man -------------------------------------------------------------------------------------------------------------
GLYPHS = dict(zip('''aq dq lq rq oq cq Fo Fc fo fc bq Bq em en hy bu co rg tm mu di +- -> <- => <= >= != == -+ ua da *m ps de sc
    rs sl ti ha ga at sh Do ss ae AE oe OE oA oa ul ba bv lB rB lC rC la ra no eu fm sd if es mo .. an lh rh pc r! r? 12 14 34 S1 S2 S3'''.split(),
    '''' " “ ” ‘ ’ « » ‹ › ‚ „ — – ‐ • © ® ™ × ÷ ± → ← ⇒ ≤ ≥ ≠ ≡ ∓ ↑ ↓ μ ¶ ° §
    \\ / ~ ^ ` @ # $ ß æ Æ œ Œ Å å _ | | [ ] { } ⟨ ⟩ ¬ € ′ ″ ∞ ∅ ∈ … ⎯ ☜ ☞ · ¡ ¿ ½ ¼ ¾ ¹ ² ³'''.split()))
ACCENTS = {"'": '\u0301', '`': '\u0300', '^': '\u0302', ':': '\u0308', ',': '\u0327', '~': '\u0303', 'o': '\u030a', 'v': '\u030c'}
STRINGS = {'lq': '“', 'rq': '”', 'R': '®', 'Tm': '™', 'L"': '"', 'R"': '"', 'C+': 'C++', 'C`': '"', "C'": '"', '--': '–'}
ESCAPE = re.compile(r'''\\(?:(?P<drop>f(?:\(..|\[[^]]*\]|.)|s(?:[+-]?\(\d\d|[+-]?\d{1,2}|\[[^]]*\]|[+-]?'[^']*')|[hvwbDlLXxZo]'[^']*'|[mMkFn](?:\(..|\[[^]]*\]|.)|
    [&%:/,|^)cdurzaptE!?]|"[^\n]*)|(?P<space>[ ~0])|e(?P<backslash>)|N'(?P<code>\d+)'|\((?P<two>..)|\[(?P<long>[^]]*)\]|
    \*(?:\((?P<string2>..)|\[(?P<stringn>[^]]*)\]|(?P<string1>.))|(?P<other>.))''', re.X)
TRANSLATORS = re.compile(r'^(ÜBERSETZUNG|TRADUCTION|TRADUCCIÓN|TRADUZIONE|VERTALING|TRADUÇÃO|COLOPHON|KOLOPHON|COLOFÓN|COLOFON|COLOFÃO)$', re.I)


def glyph(name):
    if name in GLYPHS:
        return GLYPHS[name]
    if re.fullmatch(r'u[0-9A-F]{4,6}(_[0-9A-F]{4,6})*', name):
        return ''.join(chr(int(c, 16)) for c in name[1:].split('_') if int(c, 16) <= 0x10ffff)
    if len(name) == 2 and name[0] in ACCENTS and name[1].isalpha():
        return name[1] + ACCENTS[name[0]]
    return ''


def unescape_roff(text):
    def one(m):
        if m['drop'] is not None:
            return ''
        if m['space']:
            return ' '
        if m['backslash'] is not None:
            return '\\'
        if m['code']:
            return chr(int(m['code'])) if int(m['code']) <= 0x10ffff else ''
        if m['two'] or m['long']:
            return glyph(m['two'] or m['long'])
        for key in ('string1', 'string2', 'stringn'):
            if m[key]:
                return STRINGS.get(m[key], '')
        return {'\\': '\\', '-': '-', "'": "'", '`': '`', '.': '.', '_': '_'}.get(m['other'], m['other'] or '')
    return ESCAPE.sub(one, text)


def arguments(text):
    """Words of a macro line; "quoted ones" with "" for a quote."""
    text = re.sub(r'\\".*', '', text)
    return [a[1:-1 if a.endswith('"') and len(a) > 1 else None].replace('""', '"') if a.startswith('"') else a
            for a in re.findall(r'"(?:[^"]|"")*"?|(?:\\.|[^\s\\])+', text.replace('\\ ', '\\~'))]


class ManReader:
    def __init__(self):
        self.blocks, self.part = [], []  # finished paragraphs; lines of the open one
        self.filled, self.tag_next, self.dropped = True, False, False

    def flush(self):
        if self.part and not self.dropped:
            self.blocks.append(' '.join(self.part) if self.filled else '\n'.join('    ' + l for l in self.part))
        self.part = []

    def text(self, line):
        line = unescape_roff(line)
        if self.filled and not line.strip():
            self.flush()
            return
        self.part.append(re.sub(r'\s+', ' ', line).strip() if self.filled else line.expandtabs())
        if self.tag_next:
            self.tag_next = False
            self.flush()

    def fill(self, on):
        self.flush()
        self.filled = on

    def heading(self, text):
        self.fill(True)
        self.tag_next = False
        self.dropped = False
        text = unescape_roff(text).strip()
        self.dropped = bool(TRANSLATORS.match(text))
        if text:
            self.part.append(text)
        self.flush()

    def macro(self, name, rest, lines):
        words = arguments(rest)
        if name in ('SH', 'SS', 'Sh'):
            self.heading(' '.join(words) if words else next(lines, ''))
        elif name in ('PP', 'P', 'LP', 'HP', 'sp', 'RS', 'RE', 'TQ', 'SY', 'YS', 'br'):
            self.flush()
            if name == 'TQ':
                self.tag_next = True
            elif name == 'SY' and words:
                self.text(words[0])
        elif name == 'TP':
            self.flush()
            self.tag_next = True
        elif name == 'IP':
            self.flush()
            tag = unescape_roff(words[0]).strip() if words else ''
            if tag in ('•', '·', '*', '-', 'o', '—', '–') or re.fullmatch(r'\(?\w{1,2}[.)]', tag):
                self.part.append(tag)
            elif tag:
                self.part.append(tag)
                self.flush()
        elif name in ('nf', 'EX'):
            self.fill(False)
        elif name in ('fi', 'EE'):
            self.fill(True)
        elif name in ('B', 'I', 'SM', 'SB', 'R', 'CW', 'OP'):
            self.text(' '.join(words) if words else next(lines, ''))
        elif name in ('BR', 'RB', 'BI', 'IB', 'IR', 'RI'):
            self.text(''.join(words))
        elif name in ('UR', 'MT'):
            self.link = words[0] if words else ''
            self.before_link = len(self.part)
        elif name in ('UE', 'ME'):
            if getattr(self, 'link', '') and len(self.part) == self.before_link:
                self.text(self.link)
            if words and self.part:
                self.part[-1] += unescape_roff(words[0])
            self.link = ''
        elif name in ('de', 'ig', 'am', 'de1'):
            for line in lines:
                if line.startswith('..') or (words and name == 'ig' and line.startswith('.' + words[-1])):
                    break
        elif name in ('if', 'ie', 'el', 'while'):
            depth = rest.count('\\{') - rest.count('\\}')
            while depth > 0:
                line = next(lines, None)
                if line is None:
                    break
                depth += line.count('\\{') - line.count('\\}')
        elif name == 'TS':
            self.table(lines)

    def table(self, lines):
        self.flush()
        separator, rows, block = '\t', [], None
        cells = ManReader()
        for line in lines:  # options and formats end with a line that ends in "."
            m = re.search(r'tab\s*\((.)\)', line)
            separator = m[1] if m else separator
            if line.rstrip().endswith('.'):
                break
        for line in lines:
            if line.startswith('.TE'):
                break
            if block is not None:  # inside T{ ... T}
                if line.startswith('T}'):
                    cells.flush()
                    block += ' '.join(cells.blocks) + line[2:]
                    cells.blocks = []
                    if block.endswith('T{'):
                        block = block[:-2]
                    else:
                        rows.append(block)
                        block = None
                else:
                    cells.line(line, lines)
            elif line.startswith('.T&'):
                for line in lines:
                    if line.rstrip().endswith('.'):
                        break
            elif line.startswith(('.', "'")):
                continue
            elif line.rstrip().endswith('T{'):
                block = unescape_roff(line.rstrip()[:-2])
            elif not re.fullmatch(r'[_=\\^\s]*', line):
                rows.append(unescape_roff(line))
        rows = ['\t'.join(c.strip() for c in r.split(separator)).strip('\t') for r in rows]
        if not self.dropped and any(rows):
            self.blocks.append('\n'.join(r for r in rows if r))

    def line(self, line, lines):
        m = re.match(r"[.'][ \t]*([A-Za-z&]+|\\\".*)?[ \t]*(.*)", line)
        if m and (line.startswith('.') or m[1]):
            if m[1] and not m[1].startswith('\\'):
                self.macro(m[1], m[2], lines)
        elif not line.startswith('\\"'):
            self.text(line)


def extract_man(path, root):
    text = read(path)
    if re.search(r'^\.so ', text, re.M) and len(text) < 400:
        return []  # stands for another page
    if re.search(r'^\.Dd', text, re.M):
        return []  # mdoc
    text = re.sub(r'\\\n', '', text)
    start = re.search(r'^\.\s*TH\b.*$', text, re.M)
    if not start:
        return []
    lines = iter(text[start.end():].split('\n'))
    reader = ManReader()
    for line in lines:
        reader.line(line, lines)
    reader.flush()
    return [('', clean('\n\n'.join(reader.blocks)))]


# ---- pod, text, fortune, dict, wordnet, code ---------------------------------------------------------------------------
def pod_codes(text):
    def one(m):
        code, inner = m[1], m[2] if m[2] is not None else m[3]
        if code in 'XZ':
            return ''
        if code == 'E':
            return {'sol': '/', 'verbar': '|', 'lt': '<', 'gt': '>'}.get(inner) or html.unescape('&%s;' % inner)
        if code == 'L':
            label = inner.split('|', 1)[0] if '|' in inner else inner.strip('"/')
            return label.replace('/', ' in ', 1) if '://' not in label and '|' not in inner and '/' in label else label
        return inner
    for _ in range(6):  # inner codes first
        new = re.sub(r'\b([A-Z])(?:<<+\s(.*?)\s>>+|<([^<>]*)>)', lambda m: one(m).replace('<', '\ue000').replace('>', '\ue001'), text, flags=re.S)
        if new == text:
            break
        text = new
    return text.replace('\ue000', '<').replace('\ue001', '>')


def extract_pod(path, root):
    blocks, skipping, active = [], '', False
    for paragraph in re.split(r'\n[ \t]*\n', read(path).replace('\r\n', '\n')):
        paragraph = paragraph.strip('\n')
        m = re.match(r'=([a-zA-Z]\w*)\s*(.*)', paragraph, re.S)
        if m:
            active = m[1] != 'cut'
            if m[1] == 'begin':
                skipping = m[2].split()[0] if m[2].split() else 'x'
            elif m[1] == 'end':
                skipping = ''
            elif re.match(r'head\d|item', m[1]) and not skipping:
                title = re.sub(r'\s+', ' ', pod_codes(m[2])).strip()
                if title and title != '*':
                    blocks.append(title)
        elif active and not skipping and paragraph.strip():
            verbatim = paragraph[0] in ' \t'
            blocks.append(paragraph.expandtabs() if verbatim else re.sub(r'\s+', ' ', pod_codes(paragraph)).strip())
    return [('', clean('\n\n'.join(blocks)))]


def extract_text(path, root):
    return [('', clean(read(path)))]


def extract_fortune(path, root):
    if path.endswith(('.dat', '.u8')):
        return []  # the index; a second name
    text = re.sub('.\b', '', read(path))  # overstrikes
    return grouped(re.split(r'^%%?[ \t]*$', text.replace('\r\n', '\n'), flags=re.M))


def extract_dict(path, root):
    """.dict.dz is gzip; where an entry lies stands in base 64 in the .index beside it."""
    digits = {c: i for i, c in enumerate('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/')}
    index = re.sub(r'\.dict(\.dz)?$', '', path) + '.index'
    with (gzip.open if path.endswith('.dz') else open)(path, 'rb') as f:
        data = f.read()
    places = set()
    with open(index, encoding='utf-8', errors='replace', newline='\n') as f:
        for number, line in enumerate(f, 1):
            field = line.rstrip('\n').split('\t')
            if field[0].startswith(('00-database', '00database')):
                continue
            try:
                at, size = (sum(digits[c] << 6 * i for i, c in enumerate(reversed(x))) for x in field[1:3])
            except (KeyError, ValueError):
                raise ValueError('%s:%d: want word, offset and size in base 64' % (index, number)) from None
            if at + size > len(data):
                raise ValueError('%s:%d: entry ends at byte %d, %s has %d' % (index, number, at + size, path, len(data)))
            places.add((at, size))
    entries = []
    for at, size in sorted(places):
        raw = data[at:at + size]
        try:
            entries.append(raw.decode('utf-8'))
        except UnicodeDecodeError:
            entries.append(raw.decode('iso-8859-1'))
    markup = re.compile(r'\{([^{}]{1,200})\}|__([^_\n]+)__')  # a link to another entry; emphasis
    return grouped(markup.sub(lambda m: m[1] or m[2], entry) for entry in entries)


def extract_wordnet(path, root):
    """data.*: offset, file number, class, number of words, (word, id)..., pointers | gloss; lines of the licence start with blanks."""
    kinds = {'n': 'noun', 'v': 'verb', 'a': 'adjective', 's': 'adjective', 'r': 'adverb'}
    entries = []
    for number, line in enumerate(read(path).split('\n'), 1):
        if not line or line[0] == ' ':
            continue
        head, bar, gloss = line.partition(' | ')
        field = head.split()
        if not bar or len(field) < 6 or field[2] not in kinds:
            raise ValueError('%s:%d: no line of a WordNet data file' % (path, number))
        words = field[4:4 + 2 * int(field[3], 16):2]
        entries.append('%s (%s): %s' % (', '.join(re.sub(r'\(\w+\)$', '', w).replace('_', ' ') for w in words), kinds[field[2]], gloss.strip()))
    return [(suffix, text.replace('\n\n', '\n')) for suffix, text in grouped(entries)]


def extract_code(path, root):
    text = read(path).replace('\r\n', '\n')
    if any(len(line) > LONGEST_CODE_LINE for line in text.split('\n')) or CONTROL.search(text.replace('\f', '')):
        return []  # generated tables; not text
    return [('', unicodedata.normalize('NFC', text.replace('\f', '')))]


EXTRACTORS = {'html': extract_html, 'xml': extract_xml, 'man': extract_man, 'pod': extract_pod, 'text': extract_text, 'fortune': extract_fortune,
              'dict': extract_dict, 'wordnet': extract_wordnet, 'code': extract_code}


def extract(kind, path, root=''):
    return EXTRACTORS[kind](path, root)


# ---- language --------------------------------------------------------------------------------------------------------
# frequent function words that the other six languages hardly have
WORDS = {
    'en': 'the of and to is in that for it with as are this be you not from or by an',
    'de': 'der die und das den von zu mit ist nicht ein eine für auf werden sie dem im des wird oder',
    'es': 'el los las del que una para con por se como está más puede este esta y su al',
    'fr': 'le les des est une pour dans que du vous sur par avec ce pas sont et au aux être',
    'it': 'il di che un una per della sono con nel non del si le gli è questo dei alla più',
    'nl': 'de het een van en dat niet zijn voor met op te wordt deze kan als bij worden naar',
    'pt': 'o os do da que uma para com não em no na por um se dos das são você é as'}
WORDS = {language: set(words.split()) for language, words in WORDS.items()}


def drop_english(text, language):
    """Paragraphs of a translation that were left in English go; a document of which less than 60 % is left gives ""."""
    kept = []
    for paragraph in text.split('\n\n'):
        words = re.findall(r'[^\W\d_]+', paragraph.lower())
        english, own = sum(w in WORDS['en'] for w in words), sum(w in WORDS[language] for w in words)
        if len(paragraph) < 60 or english < 3 or english <= 2 * own or paragraph.startswith('    '):
            kept.append(paragraph)
    result = '\n\n'.join(kept)
    return result if len(result) >= 0.6 * len(text) else ''


# ---- documents of a package ------------------------------------------------------------------------------------------
COUNTS = ('files', 'excluded', 'unreadable', 'no_text', 'foreign', 'short', 'long', 'not_in_share')


def expand(pattern):
    m = re.search(r'\{([^{}]*)\}', pattern)
    return [q for a in m[1].split(',') for q in expand(pattern[:m.start()] + a + pattern[m.end():])] if m else [pattern]


def files_of(tree, pattern):
    found = {f for p in expand(pattern) for f in glob.glob(os.path.join(glob.escape(tree), p), recursive=True)}
    return sorted(os.path.relpath(f, tree) for f in found if os.path.isfile(f) and not os.path.islink(f))


def keep_share(source, share):
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:8], 'big') < share * 2.0 ** 64


def documents_of(tree, row, settings, counts, messages):
    """Yields the documents of one row of a recipe from the package unpacked in tree; what is left out is counted, what is broken also named."""
    files = files_of(tree, row['glob'])
    if not files:
        raise ValueError('%s: no file matches %s' % (row['package'], row['glob']))
    counts['files'] = len(files)
    longest = settings['max_code_chars' if row['lang'] == 'code' else 'max_chars']
    for file in files:
        if row['exclude'] and re.search(row['exclude'], file):
            counts['excluded'] += 1
            continue
        try:
            documents = extract(row['format'], os.path.join(tree, file), row['root'])
        except ValueError as e:
            counts['unreadable'] += 1
            messages.append('%s: %s' % (row['package'], str(e).replace(tree + '/', '')))
            continue
        if not documents:
            counts['no_text'] += 1
        for suffix, text in documents:
            source = row['package'] + ':' + file + suffix
            if row['lang'] not in ('code', 'en') and row['format'] != 'fortune':
                left = drop_english(text, row['lang'])
                if text and not left:
                    counts['foreign'] += 1
                    continue
                text = left
            if len(text) < settings['min_chars']:
                counts['short'] += 1
            elif len(text) > longest:
                counts['long'] += 1
            elif not keep_share(source, row['share']):
                counts['not_in_share'] += 1
            else:
                yield {'text': text, 'source': source, 'lang': row['lang'], 'kind': row['kind'], 'license': row['license']}
