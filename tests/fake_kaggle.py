"""A small server on 127.0.0.1: the six calls that Kaggle gets from us, the store that it sends us on to, and plain files.

    with FakeKaggle() as server:
        server.tables['train_v2.csv/train_v2.csv'] = b'image_name,tags...'   # of the competition
        server.mirror = b'PK...'                                             # the data set, one zip
        url = server.plain('mnist_tiny.tgz', b'...')                         # for `untar_data`
        server.fault('archive.zip', dict(cut=1000), {})                      # by file, or by call: 'DownloadDataset'

What is handed in lands in `server.uploads` (token -> bytes) and `server.submissions` (what each call said); `server.scores` has the
answers about the score, one after another; the last one stays.

Like Kaggle it answers a download with 302 to a signed address on another host; like Kaggle's store that one knows Range,
If-Range and ETag, and sends the md5 in x-goog-hash. What was asked is in `server.log`: name, method, auth, range, sent (bytes).

Faults: the first request meets the first, the second the second; the last one stays. {} is none.
    status=, headers=, html=True   answer with this status and these headers, as JSON or as a page
    body=, json=True               answer 200 with these bytes, a page, or JSON
    cut=N, hang=SECONDS            promise everything, send N bytes, be silent so long, drop the connection
    expires=True                   afterwards every address given out so far is refused
    stall=SECONDS                  be silent before the answer
    wrong=N                        another byte at N than the md5 is of
    no_range=, no_length=, no_md5=, no_mark=True   leave out what these say; no_mark: neither ETag nor Last-Modified
    any_range=True                 do not look at If-Range
    says={...}                     these headers instead of the true ones; None leaves one out
    drip=SECONDS                   a byte, then silent so long, and so on to the end
    slow_head=SECONDS              the same with the letters of a header, for ever
    endless=True                   zeros until the client hangs up, in chunks, with no length; of a call: JSON without end
    partly=True                    206, whatever was asked for
"""
import base64, hashlib, json, re, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

token, user, key = 'KGAT_a_token_that_is_a_secret', 'learner', '0123456789abcdef0123456789abcdef'
competition, mirror = 'planet-understanding-the-amazon-from-space', 'nikitarom/planets-dataset'


class FakeKaggle(ThreadingHTTPServer):
    "The server; its parts are plain attributes, to be changed at any time."
    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), _Handler)
        self.url = f'http://127.0.0.1:{self.server_port}'
        self.store = f'http://localhost:{self.server_port}/store'  # another host NAME: the client drops the Authorization there
        self.tables, self.mirror, self.files = {}, None, {}
        self.uploads, self.submissions = {}, []
        self.scores = [dict(status='PENDING'), dict(status='COMPLETE', publicScore='0.9313', privateScore='0.9296')]
        self.faults, self.log, self.links, self.expired = {}, [], 0, 0
        self.lock, self.closing = threading.Lock(), threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.closing.set()  # whoever stalls goes on
        self.shutdown()
        self.thread.join()
        self.server_close()

    def handle_error(self, request, client_address): pass  # a client that hangs up is not news

    def fault(self, name, *ills): self.faults[name] = list(ills)

    def plain(self, name, data):
        "Serve `data` to everybody; gives its address."
        self.files[name] = data
        return f'{self.url}/files/{name}'

    def asked(self, name): return [entry for entry in self.log if entry['name'] == name]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_): pass

    def begin(self, name):
        "Write the log, find the fault, stall if it says so, answer for it if it has an answer. True if that was all."
        auth = self.headers.get('Authorization', '').split(' ')[0]
        self.entry = dict(name=name, method=self.command, auth=auth, range=self.headers.get('Range'), sent=0)
        with self.server.lock:
            self.server.log.append(self.entry)
            ills = self.server.faults.get(name, [{}])
            self.ill = ills.pop(0) if len(ills) > 1 else ills[0]
        self.server.closing.wait(self.ill.get('stall', 0))
        page = self.ill.get('html') and b'<html>no</html>'
        if 'endless' in self.ill and self.command == 'POST': return self.send_endless_json()
        kind = {'Content-Type': 'application/json'} if 'json' in self.ill else {}
        if 'body' in self.ill: self.send(200, self.ill['body'], kind)
        elif status := self.ill.get('status'):
            self.send(status, page or dict(code=status, message='as you wish'), self.ill.get('headers', {}))
        return 'status' in self.ill or 'body' in self.ill

    def send(self, status, body=b'', headers={}):
        "All at once: a dict as JSON, bytes as a page."
        kind = 'application/json' if isinstance(body, dict) else 'text/html'
        body = json.dumps(body).encode() if isinstance(body, dict) else body
        self.send_response(status)
        for header in {'Content-Type': kind, 'Content-Length': str(len(body)), **headers}.items(): self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status): self.send(status, dict(code=status, message='no'))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get('Content-Length') or 0)) or b'{}')
        call = urlsplit(self.path).path.rsplit('/', 1)[-1]
        if self.begin(call): return None
        basic = base64.b64encode(f'{user}:{key}'.encode()).decode()
        if self.headers.get('Authorization') not in (f'Bearer {token}', f'Basic {basic}'): return self.refuse(401)
        if call == 'StartSubmissionUpload' and body.get('competitionName') == competition:
            token_ = f'blob-{len(self.server.uploads)}'
            self.server.uploads[token_] = body
            return self.send(200, dict(token=token_, createUrl=f'{self.server.url}/upload/{token_}?X-Goog-Signature=1'))
        if call == 'CreateSubmission' and isinstance(self.server.uploads.get(body.get('blobFileTokens')), bytes):
            self.server.submissions.append(body)
            return self.send(200, dict(message='Successfully submitted', ref=1000 + len(self.server.submissions)))
        if call == 'GetSubmission' and body.get('ref') == 1000 + len(self.server.submissions):
            scores = self.server.scores
            return self.send(200, dict(ref=body['ref'], **(scores.pop(0) if len(scores) > 1 else scores[0])))
        tables = self.server.tables if body.get('competitionName') == competition else {}
        if call == 'ListDataFiles':
            return self.send(200, dict(files=[dict(name=name) for name in tables], nextPageToken=''))
        if call == 'DownloadDataFile' and body.get('fileName') in tables: return self.redirect(body['fileName'])
        slug = f'{body.get("ownerSlug")}/{body.get("datasetSlug")}'
        if call == 'DownloadDataset' and slug == mirror and self.server.mirror: return self.redirect('archive.zip')
        self.refuse(404)

    def do_PUT(self):
        data = self.rfile.read(int(self.headers['Content-Length']))
        token_ = urlsplit(self.path).path.rsplit('/', 1)[-1]
        if self.begin('upload'): return None
        before = self.server.uploads[token_]    # what was said about the file, or the file
        length = len(before) if isinstance(before, bytes) else before['contentLength']
        if self.entry['auth'] or length != len(data): return self.refuse(400)
        self.server.uploads[token_] = data
        self.send_file(b'taken'*20)

    def redirect(self, name):
        "Send the client on to the store, with an address that is signed anew each time."
        with self.server.lock: self.server.links += 1
        self.send(302, headers={'Location': f'{self.server.store}/{name}?X-Goog-Signature={self.server.links}'})

    def do_GET(self):
        address = urlsplit(self.path)
        _, place, name = unquote(address.path).split('/', 2)
        known = {**self.server.tables, 'archive.zip': self.server.mirror} if place == 'store' else self.server.files
        if self.begin(name.rsplit('/', 1)[-1]): return None
        link = int(parse_qs(address.query).get('X-Goog-Signature', ['0'])[0])
        if place == 'store' and (link <= self.server.expired or self.entry['auth']): return self.send(400, b'<Error>no</Error>')
        if known.get(name) is None: return self.send(404, b'<Error>NoSuchKey</Error>')
        self.send_file(known[name])

    def send_file(self, data):
        ill, md5 = self.ill, hashlib.md5(data)
        mark, start, digest = f'"{md5.hexdigest()}"', 0, base64.b64encode(md5.digest()).decode()
        same = ill.get('any_range') or self.headers.get('If-Range') in (None, mark)
        if self.entry['range'] and same and not ill.get('no_range'):
            start = int(re.match(r'bytes=(\d+)-', self.entry['range'])[1])
            if start >= len(data): return self.send(416, b'<Error>no</Error>', {'Content-Range': f'bytes */{len(data)}'})
        headers = {'Content-Length': str(len(data) - start), 'ETag': mark, 'x-goog-hash': f'crc32c=AAAAAA==,md5={digest}'}
        if start: headers['Content-Range'] = f'bytes {start}-{len(data) - 1}/{len(data)}'
        for less, header in dict(no_length='Content-Length', no_mark='ETag', no_md5='x-goog-hash', endless='Content-Length').items():
            if less in ill: headers[header] = None
        if 'no_length' in ill: headers['Connection'] = 'close'
        if 'endless' in ill: headers['Transfer-Encoding'] = 'chunked'
        self.close_connection = bool({'no_length', 'cut', 'endless', 'says', 'drip'} & ill.keys())
        self.send_response(206 if start or 'partly' in ill else 200)
        self.flush_headers()
        self.drip(b'X-Slow: ' + b'x'*9999, ill.get('slow_head'))
        for header, value in (headers | ill.get('says', {})).items():
            if value is not None: self.send_header(header, value)
        self.end_headers()
        if 'endless' in ill: return self.send_zeros()
        out = bytearray(data[start:][:ill.get('cut')])
        if 'wrong' in ill: out[ill['wrong']] ^= 1
        if 'drip' in ill: return self.drip(out, ill['drip'])
        self.entry['sent'] = len(out)
        self.wfile.write(out)
        if ill.get('expires'): self.server.expired = self.server.links
        self.server.closing.wait(ill.get('hang', 0))

    def drip(self, data, secs):
        "Byte after byte, as long as somebody listens."
        for i in range(len(data) if secs else 0):
            self.wfile.write(data[i:i + 1])
            self.entry['sent'] += 1
            if self.server.closing.wait(secs): break

    def send_zeros(self):
        while not self.server.closing.is_set():
            self.wfile.write(b'10000\r\n' + bytes(1 << 16) + b'\r\n')
            self.entry['sent'] += 1 << 16

    def send_endless_json(self):
        self.close_connection = True
        self.send_response(200)
        for header in {'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked'}.items(): self.send_header(*header)
        self.end_headers()
        self.send_zeros()
        return True
