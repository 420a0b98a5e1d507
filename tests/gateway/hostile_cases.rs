//! What hostile, broken and odd clients send, each by name, and what becomes of it.

use mlxsup_worker_api::{HEADER_EPOCH, HEADER_NONCE, path};

use Fate::{Answered, Refused, Submitted};

/// What becomes of the bytes of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Exactly one answer with this status and no error.
    Answered(u16),
    /// Exactly one answer, with this status and code.
    Refused(u16, &'static str),
    /// An ordinary request for the driver.
    Submitted,
}

/// Bytes on a fresh connection, after which the client waits.
pub struct Case {
    pub name: String,
    pub sends: Vec<u8>,
    pub fate: Fate,
    /// Where no keys are asked for, it is turned away for that before anything else.
    pub names_another_host: bool,
}

const BAD: Fate = Refused(400, "invalid_value");
const LARGE: Fate = Refused(413, "body_too_large");
const HEAD_LARGE: Fate = Refused(431, "headers_too_large");
const SLOW: Fate = Refused(408, "request_timeout");
const NOWHERE: Fate = Refused(404, "not_found");
const NOT_SO: Fate = Refused(405, "method_not_allowed");
/// Of the gateway under test.
const MAX_BODY: usize = 1 << 20;

fn case(name: impl Into<String>, sends: impl Into<Vec<u8>>, fate: Fate) -> Case {
    Case { name: name.into(), sends: sends.into(), fate, names_another_host: false }
}

fn elsewhere(name: &str, sends: impl Into<Vec<u8>>) -> Case {
    Case { names_another_host: true, ..case(name, sends, NOWHERE) }
}

/// A request line, and headers with their line ends.
fn head(line: &str, headers: &str) -> String {
    format!("{line}\r\nhost: localhost\r\n{headers}\r\n")
}

fn get(path: &str) -> String {
    head(&format!("GET {path} HTTP/1.1"), "")
}

fn chat(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = head("POST /v1/chat/completions HTTP/1.1", headers).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn json(body: impl AsRef<[u8]>) -> Vec<u8> {
    chat(&format!("content-length: {}\r\n", body.as_ref().len()), body.as_ref())
}

fn chunked(body: &str) -> Vec<u8> {
    chat("transfer-encoding: chunked\r\n", body.as_bytes())
}

pub fn all() -> Vec<Case> {
    let mut cases = too_large();
    cases.extend(smuggling());
    cases.extend(broken_heads());
    cases.extend(broken_json());
    cases.extend(other_protocols());
    cases.extend(paths());
    cases.extend(methods());
    cases.extend(odd_headers());
    cases
}

fn too_large() -> Vec<Case> {
    let announced = |length: u64| chat(&format!("content-length: {length}\r\n"), b"");
    let whole = json("x".repeat(MAX_BODY + 1));
    let endless = format!("{:x}\r\n{}\r\n", 3 * MAX_BODY, "x".repeat(3 * MAX_BODY));
    let waits = chat(&format!("expect: 100-continue\r\ncontent-length: {}\r\n", MAX_BODY + 1), b"");
    let long = "x".repeat(70_000);
    let many = |count: usize| (0..count).map(|n| format!("h{n}: v\r\n")).collect::<String>();
    let wide = (0..70).map(|n| format!("h{n}: {}\r\n", "v".repeat(1_000))).collect::<String>();
    vec![
        case("a body too large, announced and sent", whole, LARGE),
        case("a body too large, announced and not sent", announced(MAX_BODY as u64 + 1), LARGE),
        case("a body as large as numbers go", announced(u64::MAX - 2), LARGE),
        case("a chunked body too large", chunked(&endless), LARGE),
        case("a body too large that waits for permission", waits, LARGE),
        case("a header too long", head("GET /health HTTP/1.1", &format!("a: {long}\r\n")), HEAD_LARGE),
        case("a header too long without an end", format!("GET /health HTTP/1.1\r\na: {long}"), HEAD_LARGE),
        case("too many headers", head("GET /health HTTP/1.1", &many(100)), HEAD_LARGE),
        case("as many headers as go", head("GET /health HTTP/1.1", &many(99)), Answered(200)),
        case("headers too large together", head("GET /health HTTP/1.1", &wide), HEAD_LARGE),
        case("a path too long", get(&format!("/{long}")), HEAD_LARGE),
        case("a path that is long", get(&format!("/{}", "x".repeat(60_000))), NOWHERE),
        case("a method too long", format!("{long} / HTTP/1.1\r\n\r\n"), HEAD_LARGE),
        case("line ends without end", "\r\n".repeat(40_000), HEAD_LARGE),
    ]
}

fn smuggling() -> Vec<Case> {
    let second = get("/v1/models");
    let smuggled = |headers: &str, body: &str| chat(headers, format!("{body}{second}").as_bytes());
    let length = |value: &str| chat(&format!("content-length: {value}\r\n"), b"{}");
    let coding = |value: &str| chat(&format!("transfer-encoding: {value}\r\n"), b"2\r\n{}\r\n0\r\n\r\n");
    let old = |body: &str| head("POST /v1/chat/completions HTTP/1.0", "transfer-encoding: chunked\r\n") + body;
    vec![
        case("length, then chunked", smuggled("content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"), BAD),
        case("chunked, then length", smuggled("transfer-encoding: chunked\r\ncontent-length: 5\r\n", "0\r\n\r\n"), BAD),
        case("two different lengths", chat("content-length: 2\r\ncontent-length: 3\r\n", b"{}"), BAD),
        case("the same length twice", chat("content-length: 2\r\ncontent-length: 2\r\n", b"{}"), Submitted),
        case("a list of lengths", length("2, 2"), BAD),
        case("a signed length", length("+2"), BAD),
        case("a negative length", length("-2"), BAD),
        case("a hexadecimal length", length("0x2"), BAD),
        case("an empty length", length(""), BAD),
        case("a length beyond all numbers", length("99999999999999999999"), BAD),
        case("a length with a space before its colon", chat("content-length : 2\r\n", b"{}"), BAD),
        case("chunked", coding("chunked"), Submitted),
        case("CHUNKED", coding("CHUNKED"), Submitted),
        case("chunked and packed", coding("gzip, chunked"), BAD),
        case("chunked and then packed", coding("chunked, gzip"), BAD),
        case("chunked twice", coding("chunked, chunked"), BAD),
        case("chunked in two headers", coding("chunked\r\ntransfer-encoding: chunked"), BAD),
        case("nearly chunked", coding("xchunked"), BAD),
        case("identity as transfer encoding", coding("identity"), BAD),
        case("chunked in HTTP/1.0", old("2\r\n{}\r\n0\r\n\r\n"), BAD),
        case("chunk sizes that are none", chunked("zz\r\n{}\r\n0\r\n\r\n"), BAD),
        case("a negative chunk size", chunked("-2\r\n{}\r\n0\r\n\r\n"), BAD),
        case("an empty chunk size", chunked("\r\n{}\r\n0\r\n\r\n"), BAD),
        case("a chunk size beyond all numbers", chunked("fffffffffffffffff\r\n{}\r\n0\r\n\r\n"), BAD),
        case("a chunk longer than it says", chunked("1\r\n{}\r\n0\r\n\r\n"), BAD),
        case("a chunk without its line end", chunked("2\r\n{}0\r\n\r\n"), BAD),
        case("a chunk line with a bare line feed", chunked("2\n{}\r\n0\r\n\r\n"), BAD),
        case("a chunk extension", chunked("2;a=b\r\n{}\r\n0\r\n\r\n"), Submitted),
        case("chunk extensions without end", chunked(&format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(40_000))), BAD),
        case("a trailer", chunked("2\r\n{}\r\n0\r\na: b\r\n\r\n"), Submitted),
        case("trailers without end", chunked(&format!("2\r\n{{}}\r\n0\r\na: {}\r\n\r\n", "x".repeat(90_000))), BAD),
        case("a request behind a request", get("/health") + &second, Answered(200)),
        case("a hundred requests at once", get("/health").repeat(100), Answered(200)),
        case(
            "a request in the body of a GET",
            head("GET /health HTTP/1.1", "content-length: 9\r\n") + &second,
            Answered(200),
        ),
        case("a request behind a body", smuggled("content-length: 2\r\n", "{}"), Submitted),
    ]
}

fn broken_heads() -> Vec<Case> {
    let with = |line: &str| head("GET /health HTTP/1.1", &format!("{line}\r\n"));
    let old = head("POST /v1/chat/completions HTTP/1.0", "content-length: 2\r\n") + "{}";
    let raw = |line: &[u8]| [&b"GET /health HTTP/1.1\r\n"[..], line, b"\r\n\r\n"].concat();
    vec![
        case("a folded header", with("a: b\r\n c"), BAD),
        case("a folded header, by tab", with("a: b\r\n\tc"), BAD),
        case("a carriage return inside a header", with("a: b\rc: d"), BAD),
        case("a zero byte inside a header", with("a: b\0c"), BAD),
        case("a bell inside a header", with("a: b\x07c"), BAD),
        case("a header without a name", with(": b"), BAD),
        case("a header without a colon", with("nonsense"), BAD),
        case("a header name with a space", with("a b: c"), BAD),
        case("a header name beyond ASCII", raw(b"n\xc3\xa4me: v"), BAD),
        case("lines ended by line feeds alone", "GET /health HTTP/1.1\nhost: localhost\n\n", Answered(200)),
        case("empty lines before the request", format!("\r\n\r\n{}", get("/health")), Answered(200)),
        case("two spaces in the request line", "GET  /health HTTP/1.1\r\n\r\n", BAD),
        case("a fourth word in the request line", "GET /health HTTP/1.1 x\r\n\r\n", BAD),
        case("no version (HTTP/0.9)", "GET /health\r\n\r\n", BAD),
        case("a version in lower case", "GET /health http/1.1\r\n\r\n", BAD),
        case("HTTP/3.0", "GET /health HTTP/3.0\r\n\r\n", BAD),
        case("HTTP/1.10", "GET /health HTTP/1.10\r\n\r\n", BAD),
        case("HTTP/1.0", "GET /health HTTP/1.0\r\nhost: localhost\r\n\r\n", Answered(200)),
        case("HTTP/1.0 with a body", old, Submitted),
        case("half a head, and silence", "POST /v1/chat/comp", SLOW),
        case("a head without its last line end, and silence", "GET /health HTTP/1.1\r\nhost: localhost\r\n", SLOW),
        case("half a body, and silence", chat("content-length: 10\r\n", b"{\"a\""), SLOW),
        case("half a chunk, and silence", chunked("a\r\n{\"a\""), SLOW),
    ]
}

fn broken_json() -> Vec<Case> {
    let deep = |open: &str, close: &str| format!("{{\"a\":{}1{}}}", open.repeat(50_000), close.repeat(50_000));
    vec![
        case("no body at all", head("POST /v1/chat/completions HTTP/1.1", ""), BAD),
        case("an empty body", json(""), BAD),
        case("null", json("null"), BAD),
        case("a list", json("[{}]"), BAD),
        case("half an object", json("{\"messages\":["), BAD),
        case("two objects", json("{}{}"), BAD),
        case("arrays nested without end", json(deep("[", "]")), BAD),
        case("objects nested without end", json(deep("{\"a\":", "}")), BAD),
        case("nested and never closed", json("[".repeat(900_000)), BAD),
        case("a peeked field nested without end", json(format!("{{\"n\":{}", "[".repeat(500_000))), BAD),
        case("bytes that are no UTF-8", json(b"{\"a\":\"\xff\xfe\"}"), BAD),
        case("an overlong encoding", json(b"{\"a\":\"\xc0\xaf\"}"), BAD),
        case("UTF-16", json(b"\xff\xfe{\0}\0"), BAD),
        case("a byte order mark", json(b"\xef\xbb\xbf{}"), BAD),
        case("a zero byte", json(b"{\"a\":\"\0\"}"), BAD),
        case("half a surrogate in a name", json("{\"model\":\"\\ud800\"}"), BAD),
        case("a number beyond all numbers", json("{\"n\":1e99999}"), BAD),
        case("a number with a million digits", json(format!("{{\"n\":{}}}", "9".repeat(1_000_000))), BAD),
        case("a field twice", json("{\"stream\":true,\"stream\":false}"), BAD),
        case("NaN", json("{\"temperature\":NaN}"), BAD),
        case("a comment", json("{} // please"), BAD),
    ]
}

fn other_protocols() -> Vec<Case> {
    let client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(40);
    vec![
        case("a TLS client hello", client_hello, BAD),
        case("one byte of TLS", b"\x16", BAD),
        case("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", BAD),
        case(
            "an upgrade to HTTP/2",
            head(
                "GET /health HTTP/1.1",
                "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
            ),
            Answered(200),
        ),
        case(
            "an upgrade to a web socket",
            head(
                "GET /health HTTP/1.1",
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            ),
            Answered(200),
        ),
        case("SSH", "SSH-2.0-OpenSSH_9.9\r\n", BAD),
        case("SMTP", "EHLO example.org\r\n", BAD),
        case("Redis", "*1\r\n$4\r\nPING\r\n", BAD),
        case("SOCKS", b"\x05\x01\x00", BAD),
        case("the PROXY protocol", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /health HTTP/1.1\r\n\r\n", BAD),
        case("the PROXY protocol, version 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", BAD),
        case("an answer instead of a request", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", BAD),
        case("noise", (0_u8..=255).rev().collect::<Vec<u8>>(), BAD),
    ]
}

fn paths() -> Vec<Case> {
    let mut cases = Vec::new();
    let link =
        [path::LINK_CHAT, path::LINK_COMPLETIONS, path::STATUS, "/link/", "/control/clear-cache", "/control/limits"];
    let tricks = [
        "//v1/models",
        "/v1//models",
        "/v1/../v1/models",
        "/./health",
        "/v1/models/",
        "/health/",
        "/HEALTH",
        "/health;a=b",
        "/%68ealth",
        "/%2e%2e/health",
        "/health%00",
        "/v1%2fmodels",
        "/v1\\models",
        "/",
        "/v1",
        "/v1/status",
        "/v1/stop",
        "/etc/passwd",
        "/../../etc/passwd",
        "/favicon.ico",
        "/robots.txt",
    ];
    for path in link.into_iter().chain(tricks) {
        cases.push(case(format!("GET {path}"), get(path), NOWHERE));
        let post = head(&format!("POST {path} HTTP/1.1"), "content-length: 2\r\n") + "{}";
        cases.push(case(format!("POST {path}"), post, NOWHERE));
    }
    cases.extend([
        case("a query", get("/health?a=b&c=%00"), Answered(200)),
        case("a fragment", get("/health#a"), Answered(200)),
        case("an absolute form", get("http://localhost/health"), Answered(200)),
        case("an absolute form of the link", get("http://localhost/link/chat"), NOWHERE),
        case("an absolute form without a path", get("http://localhost"), NOWHERE),
        case("an absolute form of a file", get("file:///etc/passwd"), BAD),
        elsewhere("no slash", get("health")),
        case("a path beyond ASCII", get("/h\u{e4}lth"), NOWHERE),
        case("a path that is no UTF-8", b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(), BAD),
        case("a zero byte in a path", get("/health\0"), BAD),
        case("every server at once", head("OPTIONS * HTTP/1.1", ""), NOWHERE),
        elsewhere("a tunnel", head("CONNECT example.org:443 HTTP/1.1", "")),
        elsewhere("an absolute form of another host", get("http://example.org/v1/nothing")),
    ]);
    cases
}

fn methods() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "BREW", "get", "QUERY"] {
        for path in ["/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/x", "/health", "/ready"] {
            cases.push(case(format!("{method} {path}"), head(&format!("{method} {path} HTTP/1.1"), ""), NOT_SO));
        }
    }
    cases.push(case("GET for a chat", get("/v1/chat/completions"), NOT_SO));
    cases.push(case(
        "POST for health, with a body",
        head("POST /health HTTP/1.1", "content-length: 2\r\n") + "{}",
        NOT_SO,
    ));
    cases
}

fn odd_headers() -> Vec<Case> {
    let with = |headers: &str| chat(&format!("content-length: 2\r\n{headers}"), b"{}");
    let link = format!("{}: 99\r\n{}: {}\r\n", HEADER_EPOCH, HEADER_NONCE, "f".repeat(32));
    let mut cases: Vec<Case> = [
        ("no content type", ""),
        ("text", "content-type: text/plain\r\n"),
        ("a form", "content-type: multipart/form-data; boundary=x\r\n"),
        ("a content type that is none", "content-type: ;;;\r\n"),
        ("nothing packed", "content-encoding: identity\r\n"),
        ("headers of the worker link", &link),
        ("a request id that is none", "x-request-id: a b\"c=\r\n"),
        ("a client that is none", "x-mlxsup-client: \"=\\\r\n"),
        ("an expectation nobody has", "expect: the-spanish-inquisition\r\n"),
        ("cookies", "cookie: a=b\r\n"),
    ]
    .into_iter()
    .map(|(name, headers)| case(name, with(headers), Submitted))
    .collect();
    let bytes = [
        &b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\nx-mlxsup-client: \xff\xfe\r\n"
            [..],
        b"x-request-id: \xff\r\nauthorization: \xff\r\n\r\n{}",
    ]
    .concat();
    cases.push(case("header values that are no text", bytes, Submitted));
    for packed in ["gzip", "br", "deflate", "zstd", "gzip, identity", "identity\r\ncontent-encoding: gzip"] {
        cases.push(case(format!("packed: {packed}"), with(&format!("content-encoding: {packed}\r\n")), BAD));
    }
    cases
}
