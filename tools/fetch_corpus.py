#!/usr/bin/env python3
"""fetch_corpus.py - a text corpus from Debian packages: downloads, unpacks, extracts and writes JSONL that `slm2 data build` reads.

usage: tools/fetch_corpus.py [--recipe configs/corpus/debian.yml] [--out DIR] [--cache DIR] [options]

Packages are downloaded with apt-get and unpacked with dpkg-deb; nothing is installed and no root is needed.  OUT gets one LANG-KIND.jsonl.gz
a group (fields text, source, lang, kind, license) and manifest.json, which comes last and without which OUT is not complete.  The same
package versions give the same bytes.  CACHE keeps packages and what was extracted from each, so that a stopped run goes on where it was.
Exit status: 0; 1 after a failure; 2 when used wrongly.  Only the standard library; corpus_text.py has the formats.
"""
import argparse
import concurrent.futures
import glob
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import corpus_text  # noqa: E402

LANGUAGES = ('en', 'de', 'es', 'fr', 'it', 'nl', 'pt', 'code')
REQUIRED = ('package', 'lang', 'kind', 'license', 'format', 'glob')
OPTIONAL = {'share': 1.0, 'root': '', 'exclude': ''}
SETTINGS = {'min_chars': 200, 'max_chars': 1000000, 'max_code_chars': 300000}


class Failure(Exception):
    pass


# ---- the recipe ------------------------------------------------------------------------------------------------------
# YAML of two forms only: `name: number` at the top, and under `sources:` one `- {key: value, ...}` a line; values plain or "quoted"
VALUE = r'"(?P<quoted>[^"\\]*)"|(?P<plain>[^\s"\'\[\]{},#&*!|>%@`:-][^"\'\[\]{},#:]*)'


def parse_recipe(path):
    settings, sources, in_sources = dict(SETTINGS), [], False
    try:
        with open(path, encoding='utf-8') as f:
            lines = f.read().split('\n')
    except (OSError, UnicodeDecodeError) as e:
        raise Failure('%s: cannot read the recipe: %s' % (path, e)) from None
    for number, line in enumerate(lines, 1):
        where = '%s:%d' % (path, number)
        if not line.strip() or line.lstrip().startswith('#'):
            continue
        if not in_sources:
            m = re.fullmatch(r'(\w+):[ ]*(\S*)\s*(#.*)?', line)
            if not m:
                raise Failure('%s: want `name: value`, found "%s"' % (where, line.strip()))
            if m[1] == 'sources' and not m[2]:
                in_sources = True
            elif m[1] not in SETTINGS:
                raise Failure('%s: unknown setting "%s", want one of: %s, sources' % (where, m[1], ', '.join(SETTINGS)))
            elif not re.fullmatch(r'[1-9]\d{0,8}', m[2]):
                raise Failure('%s: %s is "%s", want a number from 1 to 999999999' % (where, m[1], m[2]))
            else:
                settings[m[1]] = int(m[2])
            continue
        m = re.fullmatch(r'\s+- \{(.*)\}\s*(#.*)?', line)
        if not m:
            raise Failure('%s: want `  - {key: value, ...}`, found "%s"' % (where, line.strip()))
        sources.append(parse_source(m[1], where))
    if not sources:
        raise Failure('%s: no sources' % path)
    return settings, sources


def parse_source(text, where):
    row, at = {}, 0
    while at < len(text):
        m = re.compile(r'\s*(\w+): *(?:' + VALUE + r')\s*(?:,|$)').match(text, at)
        if not m:
            raise Failure('%s: want `key: value` or `key: "value"`, found "%s"' % (where, text[at:at + 40].strip()))
        if m[1] in row:
            raise Failure('%s: "%s" is given twice' % (where, m[1]))
        if m[1] not in REQUIRED and m[1] not in OPTIONAL:
            raise Failure('%s: unknown key "%s", want one of: %s' % (where, m[1], ', '.join((*REQUIRED, *OPTIONAL))))
        row[m[1]] = m['quoted'] if m['quoted'] is not None else m['plain'].strip()
        at = m.end()
    for key in REQUIRED:
        if not row.get(key):
            raise Failure('%s: "%s" is missing' % (where, key))
    checks = (('package', re.fullmatch(r'[a-z0-9][a-z0-9+.-]+', row['package']), 'the name of a Debian package'),
              ('lang', row['lang'] in LANGUAGES, 'one of ' + ' '.join(LANGUAGES)),
              ('kind', re.fullmatch(r'[a-z0-9+]+', row['kind']), 'a word of a to z and 0 to 9'),
              ('format', row['format'] in corpus_text.EXTRACTORS, 'one of ' + ' '.join(corpus_text.EXTRACTORS)),
              ('glob', not row['glob'].startswith('/') and '..' not in row['glob'].split('/'), 'a path inside the package'),
              ('root', not row.get('root') or '=' in row['root'], 'attribute=value of the element that holds the text'))
    for key, good, want in checks:
        if not good:
            raise Failure('%s: %s is "%s", want %s' % (where, key, row[key], want))
    try:
        row['share'] = float(row.get('share', 1))
    except ValueError:
        row['share'] = -1
    if not 0 < row['share'] <= 1:
        raise Failure('%s: share is not a number above 0 and at most 1' % where)
    try:
        re.compile(row.get('exclude', ''))
    except re.error as e:
        raise Failure('%s: exclude is no regular expression: %s' % (where, e)) from None
    return {**OPTIONAL, **row}


BATCH = 8  # packages a call of apt-get: few enough that extraction starts early
TRIES = 3


# ---- packages --------------------------------------------------------------------------------------------------------
def run(*command, cwd=None):
    try:
        return subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, 'LC_ALL': 'C.UTF-8'})
    except FileNotFoundError:
        raise Failure('%s: command not found; the recipe needs apt-get and dpkg-deb of a Debian or Ubuntu system' % command[0]) from None


def hash_file(path):
    with open(path, 'rb') as f:
        return hashlib.file_digest(f, 'sha256').hexdigest() if hasattr(hashlib, 'file_digest') else hashlib.sha256(f.read()).hexdigest()


def candidates(packages):
    """{package: (file name, bytes, sha256 or None)} of the versions that apt would download; packages that it does not know are not in it."""
    def ask(names):
        result = run('apt-get', 'download', '--print-uris', *names)
        found = re.findall(r"^'[^']*' (([^\s_]+)_\S+) (\d+)(?: SHA256:(\w+))?", result.stdout, re.M)
        return result.returncode == 0, {package: (file, int(size), sha256) for file, package, size, sha256 in found}
    good, found = ask(packages)
    if not good:  # one unknown name fails the whole call
        found = {}
        for name in packages:
            found.update(ask([name])[1])
    return found


def cached(path, size, sha256):
    return os.path.exists(path) and os.path.getsize(path) == size and (not sha256 or hash_file(path) == sha256)


def fetch(packages, debs, offline):
    """Yields (package, path of its .deb); path is None when apt knows no such package (or, offline, the cache has none)."""
    if offline:
        for name in packages:
            found = sorted(glob.glob(os.path.join(debs, glob.escape(name) + '_*.deb')))
            if len(found) > 1:
                raise Failure('%s: %d versions in %s; with --offline keep one' % (name, len(found), debs))
            yield name, found[0] if found else None
        return
    known = candidates(packages)
    for start in range(0, len(packages), BATCH):
        batch = packages[start:start + BATCH]
        error = ''
        for attempt in range(TRIES + 1):
            lacking = [name for name in batch if name in known and not cached(os.path.join(debs, known[name][0]), *known[name][1:])]
            if not lacking:
                break
            for name in lacking:  # cut off or damaged
                if os.path.exists(os.path.join(debs, known[name][0])):
                    os.unlink(os.path.join(debs, known[name][0]))
            if attempt == TRIES:
                raise Failure('%s: cannot download %s: %s' % (lacking[0], known[lacking[0]][0], error or 'its size or SHA-256 is wrong'))
            error = run('apt-get', 'download', '-qq', '-o', 'APT::Sandbox::User=root', *lacking, cwd=debs).stderr.strip().split('\n')[-1]
        for name in batch:
            yield name, os.path.join(debs, known[name][0]) if name in known else None


# ---- extraction: one part a row of the recipe, kept in the cache -----------------------------------------------------
CODE_SHA256 = hash_file(corpus_text.__file__)  # of what runs, even if somebody edits it meanwhile


def part_path(cache, row, deb_sha256, settings):
    key = hashlib.sha256()
    key.update(json.dumps([row, settings, deb_sha256], sort_keys=True).encode())
    key.update(CODE_SHA256.encode())  # the formats changed: extract again
    return os.path.join(cache, 'parts', '%s-%s-%s.jsonl.gz' % (row['package'], row['lang'], key.hexdigest()[:16]))


def write_gzip(path, lines):
    """Deterministic gzip (no name, no time), moved into place when complete.  Returns the bytes of text before compression."""
    size = 0
    with open(path + '.tmp', 'wb') as raw:
        with gzip.GzipFile(filename='', mode='wb', compresslevel=6, fileobj=raw, mtime=0) as packed, io.BufferedWriter(packed, 1 << 20) as f:
            for line in lines:
                size += f.write(line)
    os.replace(path + '.tmp', path)
    return size


def unpack(deb, tree, beginnings):
    """Regular files whose path begins so: as dpkg-deb -x, without the pictures and languages that nobody asked for, which take most of its time."""
    try:
        process = subprocess.Popen(('dpkg-deb', '--fsys-tarfile', deb), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise Failure('dpkg-deb: command not found; the recipe needs a Debian or Ubuntu system') from None
    with process:
        try:
            with tarfile.open(fileobj=process.stdout, mode='r|') as tar:
                for member in tar:
                    name = member.name[2:] if member.name.startswith('./') else member.name
                    if member.isreg() and name.startswith(tuple(beginnings)) and '..' not in name.split('/'):
                        path = os.path.join(tree, name)
                        os.makedirs(os.path.dirname(path), exist_ok=True)
                        with open(path, 'wb') as f:
                            shutil.copyfileobj(tar.extractfile(member), f)
            process.stdout.read()  # what pads the archive
        except tarfile.TarError as e:
            raise Failure('%s: cannot unpack: %s' % (deb, process.stderr.read().decode(errors='replace').strip() or e)) from None
    if process.returncode:
        raise Failure('%s: cannot unpack: dpkg-deb ends with status %d' % (deb, process.returncode))


def extract_package(deb, rows, parts, cache, settings):
    """Writes the parts of one package; the counts of a part are its first line.  Returns what could not be read."""
    messages = []
    tree = tempfile.mkdtemp(prefix='tree-', dir=cache)
    try:
        unpack(deb, tree, [re.match(r'[^*?\[{]*', row['glob'])[0] for row in rows])
        for row, part in zip(rows, parts):
            counts = dict.fromkeys(corpus_text.COUNTS, 0)
            documents = corpus_text.documents_of(tree, row, settings, counts, messages)
            lines = [(json.dumps(d, ensure_ascii=False) + '\n').encode() for d in documents]
            write_gzip(part, [(json.dumps(counts) + '\n').encode(), *lines])
        return messages
    finally:
        shutil.rmtree(tree, ignore_errors=True)


# ---- the whole run ---------------------------------------------------------------------------------------------------
def gather(settings, sources, args, log):
    """Downloads and extracts.  Returns ([(row, part)], packages of the manifest, packages left out)."""
    debs = os.path.join(args.cache, 'debs')
    os.makedirs(debs, exist_ok=True)
    os.makedirs(os.path.join(args.cache, 'parts'), exist_ok=True)
    names = list(dict.fromkeys(row['package'] for row in sources))
    plan, packages, missing, waiting = [], [], [], []
    with concurrent.futures.ProcessPoolExecutor(args.jobs) as pool:
        for i, (name, deb) in enumerate(fetch(names, debs, args.offline), 1):
            if not deb:
                what = '%s: %s' % (name, 'not in ' + debs if args.offline else 'apt knows no such package (apt-get update? another release? contrib?)')
                if args.missing == 'fatal':
                    raise Failure(what + '; --missing skip goes on without it')
                log('left out: ' + what)
                missing.append(name)
                continue
            sha256 = hash_file(deb)
            version = run('dpkg-deb', '-f', deb, 'Version').stdout.strip()
            packages.append({'package': name, 'version': version, 'file': os.path.basename(deb), 'bytes': os.path.getsize(deb), 'sha256': sha256})
            rows = [row for row in sources if row['package'] == name]
            parts = [part_path(args.cache, row, sha256, settings) for row in rows]
            plan += zip(rows, parts)
            todo = [(row, part) for row, part in zip(rows, parts) if not os.path.exists(part)]
            log('%d/%d %s %s: %.1f MB%s' % (i, len(names), name, version, os.path.getsize(deb) / 1e6, '' if todo else ', extracted before'))
            if todo:
                waiting.append(pool.submit(extract_package, deb, *map(list, zip(*todo)), args.cache, settings))
        try:
            for future in waiting:
                for message in future.result():
                    log('left out: ' + message)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if not plan:
        raise Failure('no package left')
    return plan, packages, missing


def merge(plan, out):
    """Writes the groups, without exact duplicates (letters and digits in lower case; code byte for byte).  Returns groups, totals, counts of parts."""
    seen, groups, totals, per_source = set(), {}, {}, []
    for row, part in plan:
        groups.setdefault(row['lang'] + '-' + row['kind'], []).append((row, part))

    def lines(members):
        for row, part in members:
            with gzip.open(part, 'rb') as f:
                counts = json.loads(f.readline())
                counts.update(duplicate=0, documents=0, bytes=0)
                for line in f:
                    text = json.loads(line)['text']
                    same = text if row['lang'] == 'code' else ''.join(filter(str.isalnum, text.lower()))
                    digest = hashlib.sha256(same.encode()).digest()[:16]
                    if digest in seen:
                        counts['duplicate'] += 1
                        continue
                    seen.add(digest)
                    n = len(text.encode())
                    counts['documents'] += 1
                    counts['bytes'] += n
                    total = totals.setdefault(row['lang'], {}).setdefault(row['kind'], {'documents': 0, 'bytes': 0})
                    total['documents'] += 1
                    total['bytes'] += n
                    yield line
            per_source.append({'package': row['package'], 'lang': row['lang'], 'kind': row['kind'], 'license': row['license'], **counts})

    written = []
    for name, members in sorted(groups.items()):
        file = name + '.jsonl.gz'
        write_gzip(os.path.join(out, file), lines(members))
        documents = totals.get(members[0][0]['lang'], {}).get(members[0][0]['kind'], {'documents': 0, 'bytes': 0})
        written.append({'file': file, 'sha256': hash_file(os.path.join(out, file)), **documents})
    return written, totals, per_source


def show(totals, log):
    kinds = sorted({kind for lang in totals if lang != 'code' for kind in totals[lang]})
    log('MB of text  ' + ''.join('%11s' % k for k in kinds) + '        all  documents')
    for lang in LANGUAGES:
        if lang in totals:
            values = totals[lang].values()
            log('%-12s' % lang + ''.join('%11.2f' % (totals[lang].get(k, {}).get('bytes', 0) / 1e6) for k in kinds) +
                '%11.2f %10d' % (sum(v['bytes'] for v in values) / 1e6, sum(v['documents'] for v in values)))
    if 'code' in totals:
        log('code: ' + ', '.join('%s %.2f' % (k, v['bytes'] / 1e6) for k, v in sorted(totals['code'].items())))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--recipe', default='configs/corpus/debian.yml', help='packages and globs (default %(default)s)')
    parser.add_argument('--out', default='runs/corpus-debian', help='folder for the JSONL files (default %(default)s)')
    parser.add_argument('--cache', default='runs/corpus-cache', help='folder for packages and parts; may be deleted afterwards (default %(default)s)')
    parser.add_argument('--only', default='', metavar='PACKAGE,...', help='only these packages of the recipe')
    parser.add_argument('--missing', choices=('fatal', 'skip'), default='fatal', help='what a package does that apt does not know (default %(default)s)')
    parser.add_argument('--offline', action='store_true', help='only packages that are in the cache already; asks apt nothing')
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1, help='processes that extract (default: processors)')
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error('--jobs is %d, want at least 1' % args.jobs)
    log = lambda line: print(line, file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        settings, sources = parse_recipe(args.recipe)
        if args.only:
            only = set(args.only.split(','))
            unknown = only - {row['package'] for row in sources}
            if unknown:
                raise Failure('--only: %s not in %s' % (', '.join(sorted(unknown)), args.recipe))
            sources = [row for row in sources if row['package'] in only]
        os.makedirs(args.out, exist_ok=True)
        manifest = os.path.join(args.out, 'manifest.json')
        plan, packages, missing = gather(settings, sources, args, log)
        gathered = time.monotonic()
        if os.path.exists(manifest):
            os.unlink(manifest)  # not complete while files change
        for old in glob.glob(os.path.join(glob.escape(args.out), '*.jsonl.gz')):
            os.unlink(old)
        groups, totals, per_source = merge(plan, args.out)
        with open(manifest + '.tmp', 'w', encoding='utf-8') as f:
            json.dump({'recipe': {'file': os.path.basename(args.recipe), 'sha256': hash_file(args.recipe), 'only': sorted(filter(None, args.only.split(',')))},
                       'packages': packages, 'left_out': missing, 'groups': groups, 'totals': totals, 'sources': per_source}, f, indent=1, sort_keys=True)
            f.write('\n')
        os.replace(manifest + '.tmp', manifest)
    except (Failure, ValueError) as e:
        log('fetch_corpus.py: %s' % e)
        return 1
    except OSError as e:
        log('fetch_corpus.py: %s: %s' % (e.filename or 'input or output', e.strerror or e))
        return 1
    except KeyboardInterrupt:
        log('fetch_corpus.py: stopped; the same command goes on from here')
        return 1
    show(totals, log)
    log('%d packages, %.1f MB of downloads; %d documents, %.1f MB of text in %s; %.0f s to fetch and extract, %.0f s to write' % (
        len(packages), sum(p['bytes'] for p in packages) / 1e6, sum(g['documents'] for g in groups), sum(g['bytes'] for g in groups) / 1e6, args.out,
        gathered - start, time.monotonic() - gathered))
    return 0


if __name__ == '__main__':
    sys.exit(main())
