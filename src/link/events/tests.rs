use proptest::prelude::*;

use super::*;

const LIMIT: usize = 64;

fn parse(chunks: &[&[u8]], limit: usize) -> Vec<Result<Item, EventError>> {
    let mut parser = EventParser::new(limit);
    let mut items = Vec::new();
    for chunk in chunks {
        parser.feed(Bytes::copy_from_slice(chunk));
        while let Some(item) = parser.next() {
            let failed = item.is_err();
            items.push(item);
            if failed {
                return items;
            }
        }
    }
    items
}

fn event(name: &'static str, id: Option<&'static str>, data: Option<&'static str>) -> Result<Item, EventError> {
    Ok(Item::Event(Event {
        name: Bytes::from_static(name.as_bytes()),
        id: id.map(|id| Bytes::from_static(id.as_bytes())),
        data: data.map(|data| Bytes::from_static(data.as_bytes())),
    }))
}

#[test]
fn link_events_are_read() {
    let stream = b": prefill 3/7\n\nid: 0:1:7\ndata: {\"a\":1}\n\nid: 0:2:8\n\nevent: end\r\n\r\n";
    assert_eq!(
        parse(&[stream], LIMIT),
        [
            Ok(Item::Comment(Bytes::from_static(b"prefill 3/7"))),
            event("", Some("0:1:7"), Some("{\"a\":1}")),
            event("", Some("0:2:8"), None),
            event("end", None, None),
        ]
    );
}

#[test]
fn several_data_lines_are_one_value() {
    assert_eq!(parse(&[b"data: a\ndata:b\ndata\n\n"], LIMIT), [event("", None, Some("a\nb\n"))]);
}

#[test]
fn an_unfinished_event_never_comes_out() {
    assert_eq!(parse(&[b"id: 0:1:7\ndata: half"], LIMIT), []);
    assert_eq!(parse(&[b"id: 0:1:7\ndata: whole\n"], LIMIT), []);
}

#[test]
fn an_event_over_the_cap_fails_for_good() {
    let mut parser = EventParser::new(8);
    parser.feed(Bytes::from_static(b"data: 123456789\n\ndata: 1\n\n"));
    let error = EventError::TooLarge { limit: 8 };
    assert_eq!(parser.next(), Some(Err(error)));
    assert_eq!(parser.next(), Some(Err(error)));
}

#[test]
fn the_cap_counts_all_lines_of_an_event() {
    assert_eq!(parse(&[b"data: 1\ndata: 2\n\n"], 8), [Err(EventError::TooLarge { limit: 8 })]);
    assert_eq!(parse(&[b"data: 1\n\ndata: 2\n\n"], 8).len(), 2);
}

fn split_at<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn stream_text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"data: x".to_vec()),
        Just(b"id: 0:1:2".to_vec()),
        Just(b"event: end".to_vec()),
        Just(b": note".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"data: 0123456789012345678901234567890123456789".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// However the kernel cuts the stream, the same events come out, garbage and oversize included.
    #[test]
    fn any_split_gives_the_same_items(
        bytes in stream_text(),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let whole = parse(&[&bytes], LIMIT);
        prop_assert_eq!(&parse(&split_at(&bytes, &cuts), LIMIT), &whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&parse(&single, LIMIT), &whole);
    }
}
