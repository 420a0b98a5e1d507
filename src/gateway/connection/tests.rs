use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const PATIENCE: Patience = Patience {
    head: Duration::from_secs(30),
    idle: Duration::from_secs(300),
    stall: Duration::from_secs(300),
    first: Duration::from_secs(1),
};

fn pair(buffer: usize) -> (DuplexStream, Connection<DuplexStream>, Turns) {
    let (client, server) = duplex(buffer);
    let (connection, turns) = Connection::new(server, PATIENCE);
    (client, connection, turns)
}

async fn read(connection: &mut Connection<DuplexStream>) -> Vec<u8> {
    let mut buffer = [0; 256];
    let count = connection.read(&mut buffer).await.expect("read");
    buffer[..count].to_vec()
}

#[tokio::test]
async fn bytes_beyond_the_request_are_dropped_and_end_the_connection() {
    let (mut client, mut connection, turns) = pair(1024);
    client.write_all(b"POST / HTTP/1.1\r\n\r\nabcGET / HTTP/1.1\r\n\r\n").await.expect("sent");
    assert_eq!(read(&mut connection).await, b"POST / HTTP/1.1\r\n\r\n");
    let turn = turns.begin(Some(3));
    assert!(turn.must_close());
    assert_eq!(read(&mut connection).await, b"abc");
    // The second request is out of the way, so the hang-up behind it is seen at once.
    drop(client);
    assert_eq!(read(&mut connection).await, b"");
}

#[tokio::test]
async fn bytes_sent_while_the_answer_is_under_way_do_not_hide_the_hang_up() {
    let (mut client, mut connection, turns) = pair(1024);
    client.write_all(b"GET / HTTP/1.1\n\n").await.expect("sent");
    assert_eq!(read(&mut connection).await, b"GET / HTTP/1.1\n\n");
    let turn = turns.begin(Some(0));
    assert!(!turn.must_close());
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    drop(client);
    assert_eq!(read(&mut connection).await, b"");
    assert!(turn.must_close());
}

#[tokio::test]
async fn a_surplus_ends_the_connection_after_the_answer() {
    let (mut client, mut connection, turns) = pair(1024);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    read(&mut connection).await;
    let turn = turns.begin(Some(0));
    client.write_all(b"x").await.expect("sent");
    let mut buffer = [0; 8];
    let mut buffer = ReadBuf::new(&mut buffer);
    let pending =
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll_read(cx, &mut buffer).is_pending()));
    assert!(pending.await && turn.must_close());
    drop(turn);
    assert_eq!(read(&mut connection).await, b"");
}

#[tokio::test]
async fn two_requests_in_turn_both_pass() {
    let (mut client, mut connection, turns) = pair(1024);
    for _ in 0..2 {
        client.write_all(b"POST / HTTP/1.1\r\nA: b\r\n").await.expect("sent");
        assert_eq!(read(&mut connection).await, b"POST / HTTP/1.1\r\nA: b\r\n");
        client.write_all(b"\r\nabc").await.expect("sent");
        assert_eq!(read(&mut connection).await, b"\r\n");
        let turn = turns.begin(Some(3));
        assert_eq!(read(&mut connection).await, b"abc");
        assert!(!turn.must_close());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_answered_408() {
    let (mut client, mut connection, _turns) = pair(4096);
    client.write_all(b"POST / HT").await.expect("sent");
    read(&mut connection).await;
    let error = connection.read(&mut [0; 8]).await.expect_err("timed out");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(connection);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("answer");
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.contains("\"code\":\"request_timeout\""), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_without_a_word() {
    let (mut client, mut connection, _turns) = pair(4096);
    assert_eq!(read(&mut connection).await, b"");
    drop(connection);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("end");
    assert!(answer.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_given_up() {
    let (_client, mut connection, _turns) = pair(8);
    let error = connection.write_all(&[b'x'; 64]).await.expect_err("stalled");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn the_librarys_bare_refusals_gain_an_error_object() {
    let (mut client, mut connection, _turns) = pair(4096);
    let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n";
    connection.write_all(bare).await.expect("written");
    drop(connection);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("answer");
    assert!(answer.starts_with("HTTP/1.1 431 ") && answer.contains("\"headers_too_large\""), "{answer}");
}

#[tokio::test]
async fn other_answers_pass_unchanged() {
    let (mut client, mut connection, _turns) = pair(4096);
    let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
    connection.write_all(answer).await.expect("written");
    drop(connection);
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.expect("answer");
    assert_eq!(received, answer);
}

#[tokio::test(start_paused = true)]
async fn a_connection_to_be_left_ends_between_two_requests_and_not_before() {
    let (mut client, mut connection, turns) = pair(1024);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    turns.leave(true);
    assert_eq!(read(&mut connection).await, b"GET / HTTP/1.1\r\n\r\n", "what has come is served");
    let turn = turns.begin(Some(0));
    assert!(turn.must_close());
    drop(turn);
    assert_eq!(read(&mut connection).await, b"");
}

#[tokio::test(start_paused = true)]
async fn a_first_request_on_its_way_is_waited_for() {
    let (mut client, mut connection, turns) = pair(1024);
    turns.leave(true);
    let begun = Instant::now();
    let (read, ()) = tokio::join!(read(&mut connection), async {
        tokio::time::sleep(PATIENCE.first / 2).await;
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    });
    assert_eq!(read, b"GET / HTTP/1.1\r\n\r\n");
    assert!(begun.elapsed() < PATIENCE.first);
    let (_silent, mut connection, turns) = pair(1024);
    turns.leave(true);
    let begun = Instant::now();
    assert_eq!(super::tests::read(&mut connection).await, b"");
    assert_eq!(begun.elapsed(), PATIENCE.first);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_the_hang_up_learns_that_the_turn_is_over() {
    let (_client, mut connection, turns) = pair(4096);
    let turn = turns.begin(Some(0));
    let begun = Instant::now();
    let (end, ()) = tokio::join!(read(&mut connection), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(turn);
    });
    assert_eq!(end, b"", "it ends for want of another request");
    assert!(begun.elapsed() <= Duration::from_secs(1) + PATIENCE.idle, "{:?}", begun.elapsed());
}
