use proptest::prelude::*;

use super::*;
use crate::host::namespace::NetworkNamespace;

fn id(number: u64) -> GenerationId {
    GenerationId::new(number).unwrap()
}

fn sample() -> Header {
    Header {
        version: VERSION,
        number: id(12),
        time: humantime::parse_rfc3339("2026-03-04T05:06:07Z").unwrap(),
        who: Some(Who { name: Some("ada".into()), uid: 1000 }),
        command: Command::Apply,
        sources: vec!["/etc/portmap/web.yaml".into()],
        message: Some("web moves".into()),
        parent: Some(id(11).into()),
        restores: None,
        back: Some(id(11).into()),
        trial_until: None,
        outcome: Outcome::Committed,
        mapping_bytes: 18,
        mapping_crc32: 0x1234_abcd,
        mapping_hash: Some("00112233445566778899aabbccddeeff".parse().unwrap()),
    }
}

/// The header of a whole file, which says of the mapping behind it what is true.
#[track_caller]
fn reads_and_writes(file: &str) -> Header {
    let (head, mapping) = file.split_at(file.find("\n---\n").unwrap() + 5);
    let header = decode(head.as_bytes()).unwrap();
    assert_eq!(encode(&header), head);
    assert_eq!(check_mapping(&header, mapping.into()).unwrap(), mapping);
    header
}

#[test]
fn a_header_reads_well() {
    let text = encode(&sample());
    let expected = "\
# A generation of portmap, see `portmap show`. An edit would count as damage.
version: 2
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
mapping-hash: blake2b 00112233445566778899aabbccddeeff
header-check: crc32 ";
    assert!(text.starts_with(expected), "{text}");
    assert!(is_whole(text.as_bytes()));
    assert_eq!(decode(text.as_bytes()), Ok(sample()));
}

/// As it was written before there were hashes.
const VERSION_1: &str = "\
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
mapping-check: crc32 51e5a18d
header-check: crc32 d598e4ce
---
ports:
  80: 3000
";

#[test]
fn a_generation_of_an_earlier_version_is_read_and_stays_what_it_is() {
    let mut header = reads_and_writes(VERSION_1);
    assert_eq!((header.version, header.mapping_hash), (1, None));
    header.outcome = Outcome::Reverted;
    assert_eq!(decode(encode(&header).as_bytes()), Ok(header));
}

#[test]
fn a_mapping_that_does_not_match_its_hash_is_damaged() {
    let draft = Draft {
        who: None,
        command: Command::Clear,
        sources: Vec::new(),
        message: None,
        parent: None,
        restores: None,
        trial_until: None,
    };
    let mut header = Header::intent(id(1), draft, None, None, "ports: {}");
    assert!(check_mapping(&header, b"ports: {}".to_vec()).is_ok());
    header.mapping_hash = Some(Digest::of([&b"another"[..]]));
    let flaw = check_mapping(&header, b"ports: {}".to_vec());
    assert_eq!(flaw, Err(damaged("the mapping does not match its hash")));
}

#[test]
fn the_examples_in_the_documentation_are_real() {
    let text = include_str!("../../../docs/state.md");
    let mut examples =
        text.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let namespace: NetworkNamespace = serde_yaml::from_str(examples.next().unwrap()).unwrap();
    assert_eq!(namespace.inode(), 4026531840);
    reads_and_writes(examples.next().unwrap());
    assert_eq!(decode_boot(examples.next().unwrap().as_bytes()), Ok(id(12)));
}

#[track_caller]
fn each_byte_counts(text: &str, is_read: impl Fn(&[u8]) -> bool) {
    let text = text.as_bytes();
    assert!(is_read(text));
    for at in 0..text.len() {
        assert!(!is_read(&text[..at]), "cut at {at}");
        for flip in 1..=u8::MAX {
            let mut text = text.to_vec();
            text[at] ^= flip;
            assert!(!is_read(&text), "byte {at} ^ {flip:#x}");
        }
    }
}

#[test]
fn any_changed_or_missing_byte_is_noticed() {
    each_byte_counts(&encode(&sample()), |text| decode(text).is_ok());
    each_byte_counts(&encode_boot(id(12)), |text| decode_boot(text).is_ok());
    assert_eq!(decode_boot(encode_boot(id(12)).as_bytes()), Ok(id(12)));
}

#[test]
fn a_newer_version_is_called_so_whatever_else_it_says() {
    let text = "version: 3\nmoon: full\n---\n";
    assert_eq!(decode(text.as_bytes()), Err(Flaw::Newer(3)));
    // The pointer has a version of its own.
    assert_eq!(decode_boot(b"version: 2\nslots: [a, b]\n"), Err(Flaw::Newer(2)));
    assert_eq!(decode_boot(b"version: 3\nslots: [a, b]\n"), Err(Flaw::Newer(3)));
}

#[test]
fn what_is_no_header_is_damaged_never_empty() {
    for text in [
        "",
        "---\n",
        "\n---\n",
        "version: 0\n---\n",
        "version: 1\n---\n",
        "ports:\n  80: 3000\n",
        "\0\0\0\0",
    ] {
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
            number: id(number),
            time,
            who: who.map(|(name, uid)| Who { name, uid }),
            sources,
            message,
            parent: parent.map(Point::from),
            back: back.map(Point::from),
            restores: restores.map(Point::from),
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
