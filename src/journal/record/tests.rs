use proptest::prelude::*;

use super::*;

fn sample() -> Header {
    Header {
        number: 12,
        time: parse_time("2026-03-04T05:06:07Z").unwrap(),
        who: Some(Who { name: Some("ada".into()), uid: 1000 }),
        command: Command::Apply,
        sources: vec!["/etc/portmap/web.yaml".into()],
        message: Some("web moves".into()),
        parent: Some(11),
        restores: None,
        back: Some(11),
        trial_until: None,
        outcome: Outcome::Committed,
        mapping_bytes: 18,
        mapping_crc32: 0x1234_abcd,
    }
}

#[test]
fn a_header_reads_well() {
    let text = encode(&sample());
    let expected = "\
# A generation of portmap, see `portmap show`. An edit would count as damage.
version: 1
number: 12
time: 2026-03-04T05:06:07Z
who:
  name: ada
  uid: 1000
command: apply
sources:
- /etc/portmap/web.yaml
message: web moves
parent: 11
back: 11
outcome: committed
mapping-bytes: 18
mapping-check: crc32 1234abcd
header-check: crc32 ";
    assert!(text.starts_with(expected), "{text}");
    assert!(is_whole(text.as_bytes()));
    assert_eq!(decode(text.as_bytes()), Ok(sample()));
}

#[test]
fn the_examples_in_the_documentation_are_real() {
    let text = include_str!("../../../docs/state.md");
    let mut examples =
        text.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let generation = examples.next().unwrap();
    let (head, mapping) = generation.split_at(generation.find("\n---\n").unwrap() + 5);
    let header = decode(head.as_bytes()).unwrap();
    assert_eq!(encode(&header), head);
    assert_eq!(check_mapping(&header, mapping.into()).unwrap(), mapping);
    assert_eq!(decode_boot(examples.next().unwrap().as_bytes()), Ok(12));
}

#[test]
fn any_changed_or_missing_byte_of_a_header_is_noticed() {
    let text = encode(&sample()).into_bytes();
    for at in 0..text.len() {
        assert!(decode(&text[..at]).is_err(), "cut at {at}");
        for flip in 1..=u8::MAX {
            let mut text = text.clone();
            text[at] ^= flip;
            assert!(decode(&text).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
}

#[test]
fn any_changed_or_missing_byte_of_the_boot_pointer_is_noticed() {
    let text = encode_boot(12).into_bytes();
    assert_eq!(decode_boot(&text), Ok(12));
    for at in 0..text.len() {
        assert!(decode_boot(&text[..at]).is_err(), "cut at {at}");
        for flip in 1..=u8::MAX {
            let mut text = text.clone();
            text[at] ^= flip;
            assert!(decode_boot(&text).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
}

#[test]
fn an_older_version_is_read() {
    let text = "version: 0\nnumber: 3\ntime: 2025-12-31T23:59:59Z\noutcome: committed\n\
                mapping-bytes: 2\nmapping-check: crc32 00000007\n---\n";
    let header = decode(text.as_bytes()).unwrap();
    assert_eq!((header.number, header.outcome), (3, Outcome::Committed));
    assert_eq!((header.who, header.parent, header.back), (None, None, None));
}

#[test]
fn a_newer_version_is_called_so_whatever_else_it_says() {
    let text = "version: 2\nmoon: full\n---\n";
    assert_eq!(decode(text.as_bytes()), Err(Flaw::Newer(2)));
    assert_eq!(decode_boot(b"version: 3\nslots: [a, b]\n"), Err(Flaw::Newer(3)));
}

#[test]
fn what_is_no_header_is_damaged_never_empty() {
    for text in ["", "---\n", "\n---\n", "version: 1\n---\n", "ports:\n  80: 3000\n", "\0\0\0\0"] {
        assert!(matches!(decode(text.as_bytes()), Err(Flaw::Damaged(_))), "{text:?}");
        assert!(matches!(decode_boot(text.as_bytes()), Err(Flaw::Damaged(_))), "{text:?}");
    }
}

#[test]
fn a_clock_out_of_range_does_not_stop_us() {
    for time in [
        SystemTime::UNIX_EPOCH - Duration::from_secs(1),
        SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40),
    ] {
        let header = Header { time: whole_seconds(time), ..sample() };
        assert_eq!(decode(encode(&header).as_bytes()), Ok(header));
    }
}

#[test]
fn through_sudo_it_is_the_one_who_called_it() {
    let name_of = |uid| (uid == 1000).then(|| "ada".to_owned());
    let sudo = |name: &str| match name {
        "SUDO_UID" => Some("1000".to_owned()),
        _ => None,
    };
    let ada = Who { name: Some("ada".into()), uid: 1000 };
    assert_eq!(Who::behind(0, sudo, name_of), ada);
    assert_eq!(Who::behind(1000, |_| None, name_of), ada);
    // Set by a user who is not root, it means nothing.
    assert_eq!(Who::behind(1001, sudo, name_of), Who { name: None, uid: 1001 });
    assert_eq!(Who::behind(0, |_| Some("nonsense".into()), name_of).uid, 0);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ \t\n\r\u{85}\u{2028}\u{feff}a:#'\"|>%@~-]{0,24}",
        Just("---".to_owned()),
        Just("\n---\nversion: 9".to_owned()),
        Just("null".to_owned()),
        Just("1e3".to_owned()),
    ]
}

proptest! {
    #[test]
    fn a_header_comes_back_as_it_was(
        number in 1..=u64::MAX,
        seconds in 0..4_000_000_000_u64,
        who in proptest::option::of((proptest::option::of(text()), any::<u32>())),
        sources in proptest::collection::vec(text(), 0..4),
        message in proptest::option::of(text()),
        parent in any::<Option<u64>>(),
        back in any::<Option<u64>>(),
        restores in any::<Option<u64>>(),
        mapping_crc32 in any::<u32>(),
    ) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let header = Header {
            number,
            time,
            who: who.map(|(name, uid)| Who { name, uid }),
            sources,
            message,
            parent,
            back,
            restores,
            trial_until: Some(time),
            mapping_crc32,
            ..sample()
        };
        let text = encode(&header);
        // The first end of a header is its own: no value can fake one.
        let lines: Vec<&[u8]> = text.as_bytes().split_inclusive(|&b| b == b'\n').collect();
        for cut in 1..lines.len() {
            prop_assert!(!is_whole(&lines[..cut].concat()));
        }
        prop_assert_eq!(decode(text.as_bytes()), Ok(header));
    }

    #[test]
    fn no_input_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode(&bytes);
        let _ = decode_boot(&bytes);
    }
}
