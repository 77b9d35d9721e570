#!/usr/bin/env python3
"""test_corpus.py - tests tools/fetch_corpus.py and its extractors on small inputs: exact text, errors, the same bytes twice.  No network.

Packages are made here with dpkg-deb and used with --offline; without dpkg-deb that part is skipped.  Last line: "N passed, N failed".
"""
import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(ROOT, 'tools'))
import corpus_text  # noqa: E402
import fetch_corpus as tool  # noqa: E402

folder = tempfile.mkdtemp(prefix='slm2-fetch-')


def write(name, data):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    raw = data if isinstance(data, bytes) else data.encode()
    with (gzip.open if name.endswith(('.gz', '.dz')) else open)(path, 'wb') as f:
        f.write(raw)
    return path


def equal(found, wanted):
    if found != wanted:
        raise AssertionError('found\n%s\nwant\n%s' % (found, wanted))


def text_of(kind, name, data, root=''):
    documents = corpus_text.extract(kind, write(name, data), root)
    equal([suffix for suffix, _ in documents], [''])
    return documents[0][1]


def test_html_page():
    equal(text_of('html', 'a.html', '''<!DOCTYPE html><html><head><title>T</title><style>p {}</style></head><body>
<div class="navheader"><a href="x">Prev</a> | <a href="y">Next</a></div><script>if (a < b) { document.write("<p>no</p>"); }</script>
<nav><ul><li>Home</ul></nav><h1>Caf&eacute;&shy;s &amp; bars<a class="headerlink" href="#x">¶</a></h1>
<div class="menu">Home</div><p>One <span class="menuitem">bold</span>
  word.<p>Two&nbsp;words.<br>New line<ul><li>first<li>second <a href="z">link</a></ul>
<pre>  int x;

    y &lt; z;
</pre><table><tr><th>Key <th> Use<tr><td><p>Ctrl</p><td>control</table>
<p>You find more in <a href=1>alpha</a> <a href=2>beta</a> <a href=3>gamma</a></p><p><a href=1>alpha</a> · <a href=2>beta</a> · <a href=3>gamma</a></p>
<p>End.</p><p><a href=4>one</a></p><p><a href=5>two</a></p><p><a href=6>three</a></p><div id="quickview">q</div><div role="navigation">up</div><footer>Copyright</footer></body></html>'''),
          '''Cafés & bars

One bold word.

Two words.
New line

first
second link

  int x;

    y < z;

Key\tUse
Ctrl\tcontrol

You find more in alpha beta gamma

End.''')


def test_html_root():
    page = '<body><p>menu</p><div id="main"><p>in<div>deep</div></div><p>after</p>' + '<p>long tail</p>' * 2000 + '</body>'
    equal(text_of('html', 'b.html', page, 'id=main'), 'in\n\ndeep')
    equal(text_of('html', 'b.html', page, 'id=none'), '')


def test_html_contents():
    links = ''.join('<li><a href="%d">Chapter number %d</a></li>' % (i, i) for i in range(20))
    equal(text_of('html', 'c.html', '<body><p>Short.</p><ul>' + links + '</ul></body>'), '')
    equal(corpus_text.extract('html', write('genindex.html', '<p>An entry</p>')), [])


def test_html_latin1():
    equal(text_of('html', 'd.html', b'<p>na\xefve \x01caf\xe9'), 'naïve café')


def test_docbook():
    equal(text_of('xml', 'a.docbook', '''<?xml version="1.0" ?>
<!DOCTYPE book PUBLIC "-//KDE//DTD DocBook XML V4.5-Based Variant V1.1//EN" "dtd/kdedbx45.dtd" [ <!ENTITY own "my text"> <!ENTITY % German "INCLUDE"> ]>
<book><bookinfo><title>Gone</title></bookinfo><chapter><title>&kate; and &kde;</title><indexterm><primary>gone</primary></indexterm>
<para>Press <keycombo>&Ctrl;<keycap>S</keycap></keycombo>: &own;, &lt;b&gt;.</para>
<variablelist><varlistentry><term>Open</term><listitem><para>opens.</para></listitem></varlistentry></variablelist>
<screen>$ ls
   x</screen><mediaobject><imageobject><imagedata fileref="a.png"/></imageobject><textobject><phrase>A picture</phrase></textobject></mediaobject>
&underFDL;</chapter></book>'''),
          'Kate and KDE\n\nPress Ctrl+S: my text, <b>.\n\nOpen\n\nopens.\n\n$ ls\n   x\n\nA picture')


def test_mallard():
    equal(text_of('xml', 'a.page', '''<page xmlns="http://projectmallard.org/1.0/" type="topic" id="x"><info><credit><name>N</name></credit><desc>gone</desc></info>
<title>Sound</title><p>Click <guiseq><gui>Sound</gui>
<gui>Mute</gui></guiseq> <media type="image" src="a.png">icon</media> or
see <link xref="y">volume</link>.</p><steps><item><p>One.</p></item><item><p>Two.</p></item></steps></page>'''),
          'Sound\n\nClick Sound → Mute icon or see volume.\n\nOne.\n\nTwo.')


def test_xml_broken():
    try:
        corpus_text.extract('xml', write('bad.xml', '<page>\n<p>x</page>'))
    except ValueError as e:
        assert 'bad.xml: no well-formed XML' in str(e) and 'line 2' in str(e), e
    else:
        raise AssertionError('broken XML was read')


MAN = r'''.\" comment
.de XX
gone
..
.ie n \{\
gone
.\}
.TH LS 1 "today" "x" "y"
.SH NAME
ls \- list \(lqdirectory\(rq contents
.SH "SYNOPSIS"
.nf
.B #include <x.h>
  int f(\fBint\fP a);
.fi
.SS Options
.TP
.BR \-a ", " \-\-all
do not ignore
entries: na\[i :]ve, \[u00E9], e\*'x \s-1NO\s0.
.IP \(bu 2
a bullet
.IP "B C"
named
.PP
See
.UR https://x.example/
.UE .
.TS
tab(:) allbox;
lb l
l l.
Key:T{
.B long
text
T}
_
a:\fIb\fP
.TE
.if t gone
.RS
inside
.RE
.SH ÜBERSETZUNG
Die Übersetzung wurde gemacht.
'''


def test_man():
    equal(text_of('man', 'ls.1.gz', MAN.replace(r"e\*'x ", '')), '''NAME

ls - list “directory” contents

SYNOPSIS

    #include <x.h>
      int f(int a);

Options

-a, --all

do not ignore entries: nave, é, NO.

• a bullet

B C

named

See https://x.example/.

Key\tlong text
a\tb

inside''')


def test_man_others():
    equal(corpus_text.extract('man', write('so.1', '.so man1/ls.1\n')), [])
    equal(corpus_text.extract('man', write('mdoc.1', '.Dd today\n.Dt LS 1\n.Sh NAME\n')), [])


def test_pod():
    equal(text_of('pod', 'a.pod', '''package X;

=encoding utf8

=head1 NAME X<gone>

B<x> - C<< a->b >> and L<text|perlfunc/x>, L<perlop>, E<gt>
C<I<nested>>

    verbatim  B<kept>

=over 4

=item *

point

=back

=begin html

<p>gone</p>

=end html

=cut

sub gone { }

=head2 Two
'''), 'NAME\n\nx - a->b and text, perlop, > nested\n\n    verbatim  B<kept>\n\npoint\n\nTwo')


def test_fortune():
    equal(corpus_text.extract('fortune', write('f', 'One.\n\t\t-- A\n%\n%\nT\bTwo.\n%\n')), [('#1', 'One.\n\t\t-- A\n\nTwo.')])
    equal(corpus_text.extract('fortune', write('f.dat', b'\0\0')), [])
    long = ''.join('%d %s\n%%\n' % (i, 'x' * 998) for i in range(10))
    equal([(s, len(t)) for s, t in corpus_text.extract('fortune', write('g', long))], [('#1', 4006), ('#2', 4006), ('#3', 2002)])


def test_dict():
    path = write('d.dict.dz', 'about this\ncat\n  an {dog}\ndog\n  a café\n')
    write('d.index', '00-database-info\tA\tL\ncat\tL\tP\ndog\ta\tO\nhound\ta\tO\n')
    equal(corpus_text.extract('dict', path), [('#1', 'cat\n  an dog\n\ndog\n  a café')])
    write('d.index', 'cat\tL\tQQ\n')
    for bad in ('cat\tL\tQQ\n', 'cat\tL\n', 'cat\t!\tQ\n'):
        write('d.index', bad)
        try:
            corpus_text.extract('dict', path)
        except ValueError as e:
            assert 'd.index:1: ' in str(e), e
        else:
            raise AssertionError('read ' + bad)


def test_wordnet():
    equal(corpus_text.extract('wordnet', write('data.noun', '  1 licence\n00001740 03 n 02 living_thing 0 entity(p) 0 001 ~ 00001930 n 0000 | that which lives  \n')),
          [('#1', 'living thing, entity (noun): that which lives')])


def test_code():
    source = '\tint a;\r\n\n\n\n  /* \u00e9 */  \n'
    equal(text_of('code', 'a.c', source), '\tint a;\n\n\n\n  /* é */  \n')
    equal(corpus_text.extract('code', write('b.c', 'x' * 2001)), [])
    equal(corpus_text.extract('code', write('c.c', b'\x00\x01')), [])


def test_english_in_translations():
    german = 'Der Befehl zeigt die Dateien an, die mit dem Namen des Ordners beginnen, und gibt sie auf der Konsole aus.'
    english = 'The command shows all of the files that are in the folder, and it prints them to the console for you.'
    equal(corpus_text.drop_english(german + '\n\n' + english + '\n\n' + german, 'de'), german + '\n\n' + german)
    equal(corpus_text.drop_english(english + '\n\n' + english + '\n\n' + german, 'de'), '')


def test_damaged():
    """Files with bytes changed, lost and doubled give text or ValueError, and text without control characters."""
    draw = random.Random(1)
    pages = {'html': b'<!DOCTYPE html><p class="x">a &amp; b<table><tr><td>1<td><p>2</p><p>3</p></table><pre>x\n y</pre><!-- c --><script>s</script><ul><li><a href=1>l</a></ul>',
             'xml': b'<?xml version="1.0"?><!DOCTYPE book [<!ENTITY o "x">]><book><para>&o;&kate; a<keycombo><keycap>A</keycap><keycap>B</keycap></keycombo></para></book>',
             'man': MAN.encode(), 'pod': b'=head1 A B<c E<lt> C<< d >>>\n\n  v\n\n=begin x\n\nL<a|b/c>\n\n=end\n\n=over\n\n=item *\n\nX<y>\n', 'fortune': b'a\n%\nb\x08c\n%\n',
             'wordnet': b'00001740 03 n 02 living_thing 0 entity 0 000 | that which\n', 'text': b'a\xc3\xa9\x07\r\n', 'code': b'int a;\n\xe9'}
    for kind, page in pages.items():
        for _ in range(300):
            data = bytearray(page)
            for _ in range(draw.randint(1, 4)):
                i = draw.randrange(len(data))
                what = draw.randrange(4)
                if what == 0:
                    data[i] = draw.randrange(256)
                elif what == 1:
                    del data[i:i + draw.randint(1, 20)]
                elif what == 2:
                    data[i:i] = data[i:i + draw.randint(1, 20)]
                else:
                    data[i:i] = draw.choice((b'\n.', b'\\', b'<', b'>', b'"', b"'", b'&#9999999;', b'\\[', b'T{\n', b'\n.TS\n', b'\n.if \\{', b'E<', b'\xff\xfe', b"\\N'99999999'", b'\\[uFFFFFF]'))
                data = data or bytearray(b'x')
            try:
                documents = corpus_text.extract(kind, write('damaged', bytes(data)))
            except ValueError:
                continue
            for _, text in documents:
                text.encode()
                assert not any(c < ' ' and c not in '\t\n' for c in text), (kind, bytes(data), text)


ROW = '  - {package: aa, lang: en, kind: help, license: "X, y", format: text, glob: "u/*.txt"%s}\n'


def test_recipe():
    settings, rows = tool.parse_recipe(write('r.yml', '# c\nmin_chars: 5 # c\nsources:\n' + ROW % ', share: 0.5' + ROW % ''))
    equal((settings['min_chars'], len(rows), rows[0]['license'], rows[0]['share'], rows[1]['share']), (5, 2, 'X, y', 0.5, 1.0))
    for text, message in (('sources:\n', 'no sources'), ('foo: 1\n', 'r.yml:1: unknown setting "foo"'), ('min_chars: x\n', 'r.yml:1: min_chars is "x"'),
                          ('sources:\n' + ROW % ', x: 1', 'r.yml:2: unknown key "x"'), ('sources:\n' + ROW % ', kind: a', '"kind" is given twice'),
                          ('sources:\n' + ROW % ', share: 2', 'share is not'), ('sources:\n' + (ROW % '').replace('lang: en', 'lang: xx'), 'lang is "xx", want one of'),
                          ('sources:\n' + (ROW % '').replace('kind: help, ', ''), '"kind" is missing'), ('sources:\n' + ROW % ', root: [a]', 'want `key: value`'),
                          ('sources:\n' + (ROW % '').replace('"u/', '"../'), 'want a path inside the package'), ('sources:\n- x\n', 'r.yml:2: want `  - {key'),
                          ('sources:\n' + ROW % ', exclude: "("', 'no regular expression')):
        try:
            tool.parse_recipe(write('r.yml', text))
        except tool.Failure as e:
            assert message in str(e), '%r not in %r' % (message, str(e))
        else:
            raise AssertionError('accepted: ' + text)


def test_default_recipe():
    settings, rows = tool.parse_recipe(os.path.join(ROOT, 'configs', 'corpus', 'debian.yml'))
    equal({row['lang'] for row in rows}, set(tool.LANGUAGES))
    groups = {'%s-%s.jsonl.gz' % (row['lang'], row['kind']) for row in rows}
    with open(os.path.join(ROOT, 'configs', 'data-debian.yml'), encoding='utf-8') as f:
        used = {line.strip()[2:].split('/')[-1] for line in f if line.strip().startswith('- runs/corpus-debian/')}
    equal(used, groups)


def make_package(name, files):
    tree = os.path.join(folder, 'build-' + name)
    for path, data in {'DEBIAN/control': 'Package: %s\nVersion: 1:2-3\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n' % name, **files}.items():
        write(os.path.join('build-' + name, path), data)
    os.makedirs(os.path.join(folder, 'cache', 'debs'), exist_ok=True)
    subprocess.run(['dpkg-deb', '--root-owner-group', '-b', tree, os.path.join(folder, 'cache', 'debs', name + '_1%3a2-3_all.deb')], check=True, stdout=subprocess.DEVNULL)


def fetch(*args, offline=True):
    stderr, sys.stderr = sys.stderr, io.StringIO()
    try:
        return tool.main(['--recipe', os.path.join(folder, 'r.yml'), '--cache', os.path.join(folder, 'cache'), '--jobs', '2', *(['--offline'] if offline else []), *args]), sys.stderr.getvalue()
    finally:
        sys.stderr = stderr


def tree_of(out):
    return {name: open(os.path.join(out, name), 'rb').read() for name in sorted(os.listdir(out))}


def test_whole_run():
    if not shutil.which('dpkg-deb'):
        print('skipped: test_whole_run: dpkg-deb not found')
        return
    long = 'A text of some length. ' * 3
    make_package('one', {'u/a.txt': long + 'a\n', 'u/b.txt': long.upper() + ' A', 'u/c.txt': 'short', 'u/d.txt': long + '\u00ad\x07é'})
    make_package('two', {'u/a.txt': long + 'a', 'u/e.py': '# code\nprint("%s")\n' % long, 'u/bad.xml': '<a>', 'u/skip.txt': long + 'x'})
    recipe = ('min_chars: 20\nsources:\n' + ROW.replace('package: aa', 'package: one') % '' + ROW.replace('package: aa', 'package: two') % ', exclude: "skip"' +
              '  - {package: two, lang: code, kind: python, license: MIT, format: code, glob: "**/*.py"}\n' +
              '  - {package: two, lang: de, kind: help, license: MIT, format: xml, glob: "u/*.xml"}\n')
    write('r.yml', recipe)
    out = os.path.join(folder, 'out')
    status, log = fetch('--out', out)
    equal(status, 0)
    assert 'two: u/bad.xml: no well-formed XML' in log, log
    first = tree_of(out)
    equal(sorted(first), ['code-python.jsonl.gz', 'de-help.jsonl.gz', 'en-help.jsonl.gz', 'manifest.json'])
    records = [json.loads(line) for line in gzip.decompress(first['en-help.jsonl.gz']).decode().splitlines()]
    equal([(r['source'], r['text'][-2:]) for r in records], [('one:u/a.txt', ' a'), ('one:u/d.txt', ' é')])
    equal((records[0]['lang'], records[0]['kind'], records[0]['license']), ('en', 'help', 'X, y'))
    manifest = json.loads(first['manifest.json'])
    equal([(p['package'], p['version']) for p in manifest['packages']], [('one', '1:2-3'), ('two', '1:2-3')])
    equal([(s['documents'], s['duplicate'], s['short'], s['excluded'], s['unreadable']) for s in manifest['sources']],
          [(1, 0, 0, 0, 0), (0, 0, 0, 0, 1), (2, 1, 1, 0, 0), (0, 1, 0, 1, 0)])
    equal(manifest['totals']['en']['help'], {'documents': 2, 'bytes': sum(len(r['text'].encode()) for r in records)})

    # from the parts, from one lost part, and from nothing: the same bytes
    parts = os.path.join(folder, 'cache', 'parts')
    assert 'extracted before' in fetch('--out', out)[1]
    equal(tree_of(out), first)
    os.unlink(os.path.join(parts, sorted(os.listdir(parts))[0]))
    equal(fetch('--out', out)[0], 0)
    equal(tree_of(out), first)
    shutil.rmtree(parts)
    equal(fetch('--out', out + '2', '--jobs', '1')[0], 0)
    equal(tree_of(out + '2'), first)

    # what is wrong has a name
    write('r.yml', recipe + ROW.replace('package: aa', 'package: nowhere') % '')
    status, log = fetch('--out', out)
    assert status == 1 and 'nowhere: not in ' in log and '--missing skip' in log, log
    equal(fetch('--out', out, '--missing', 'skip')[0], 0)
    equal(json.loads(tree_of(out)['manifest.json'])['left_out'], ['nowhere'])
    write('r.yml', recipe.replace('u/*.txt', 'v/*.txt'))
    status, log = fetch('--out', out)
    assert status == 1 and 'one: no file matches v/*.txt' in log, log
    write('cache/debs/broken_1_all.deb', '!<arch>')
    write('r.yml', 'sources:\n' + ROW.replace('package: aa', 'package: broken') % '')
    status, log = fetch('--out', out)
    assert status == 1 and 'broken_1_all.deb: cannot unpack: ' in log, log
    path, os.environ['PATH'] = os.environ['PATH'], folder
    try:
        status, log = fetch('--out', out)
    finally:
        os.environ['PATH'] = path
    assert status == 1 and 'command not found' in log, log


APT = """#!/bin/sh
# stands for apt-get: knows the packages of $STORE; the first download is cut off, none works when $STORE/broken exists
echo "$@" >>"$STORE/calls"
uris=
for word; do
    case $word in
    --print-uris) uris=1 ;;
    download | -qq | -o | APT::*) ;;
    *) file=$(cd "$STORE" && echo "$word"_*.deb)
       [ -e "$STORE/$file" ] || { echo "E: Unable to locate package $word" >&2; exit 100; }
       if [ $uris ]; then
           echo "'http://x/$file' $file $(stat -c %s "$STORE/$file") SHA256:$(sha256sum "$STORE/$file" | cut -d ' ' -f 1)"
       elif [ -e "$STORE/broken" ]; then echo "E: no network" >&2; exit 100
       elif [ ! -e "$STORE/once" ]; then touch "$STORE/once"; head -c 100 "$STORE/$file" >"$file"
       else cp "$STORE/$file" .; fi ;;
    esac
done
"""


def test_download():
    if not shutil.which('dpkg-deb'):
        print('skipped: test_download: dpkg-deb not found')
        return
    make_package('net', {'u/a.txt': 'From afar. ' * 30})
    store, cache = os.path.join(folder, 'store'), os.path.join(folder, 'netcache')
    os.makedirs(store)
    deb = 'net_1%3a2-3_all.deb'
    os.rename(os.path.join(folder, 'cache', 'debs', deb), os.path.join(store, deb))
    os.chmod(write('bin/apt-get', APT), 0o755)
    write('r.yml', 'sources:\n' + ROW.replace('package: aa', 'package: net') % '' + ROW.replace('package: aa', 'package: nowhere') % '')
    before = dict(os.environ)
    os.environ.update(PATH=os.path.join(folder, 'bin') + ':' + before['PATH'], STORE=store)
    try:
        status, log = fetch('--out', os.path.join(folder, 'netout'), '--cache', cache, offline=False)
        assert status == 1 and 'nowhere: apt knows no such package' in log, log
        status, log = fetch('--out', os.path.join(folder, 'netout'), '--cache', cache, '--missing', 'skip', offline=False)
        equal((status, open(os.path.join(cache, 'debs', deb), 'rb').read()), (0, open(os.path.join(store, deb), 'rb').read()))
        equal([c.startswith('download -qq') for c in open(os.path.join(store, 'calls'), encoding='utf-8')].count(True), 2)  # cut off, then whole
        write('netcache/debs/' + deb, 'damaged')
        write('store/broken', '')
        status, log = fetch('--out', os.path.join(folder, 'netout'), '--cache', cache, '--only', 'net', offline=False)
        assert status == 1 and 'net: cannot download ' + deb + ': E: no network' in log, log
    finally:
        os.environ.clear()
        os.environ.update(before)


def main():
    passed = failed = 0
    try:
        for name, test in list(globals().items()):
            if name.startswith('test_'):
                try:
                    test()
                    passed += 1
                except Exception:  # the test's failure is the result
                    failed += 1
                    print('FAILED %s\n%s' % (name, traceback.format_exc()))
    finally:
        shutil.rmtree(folder)
    print('%d passed, %d failed' % (passed, failed))
    return failed != 0


if __name__ == '__main__':
    sys.exit(main())
