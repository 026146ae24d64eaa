use proptest::prelude::*;

use super::*;

/// A file with records of two kinds that need nothing learned.
fn file() -> Vec<u8> {
    let mut writer = Writer::start(Vec::new(), 7).expect("memory");
    writer.record(&Record::Forwarded(vec![[1; 16], [2; 16]])).expect("memory");
    writer.record(&Record::Items(Vec::new())).expect("memory");
    writer.finish().expect("memory")
}

/// `records`, with a checksum that is right.
fn framed(records: &[Vec<u8>]) -> Vec<u8> {
    let mut file = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
    for record in records {
        file.extend_from_slice(&u32::try_from(record.len()).expect("small").to_le_bytes());
        file.extend_from_slice(record);
    }
    file.extend_from_slice(&0_u32.to_le_bytes());
    let checksum = crc32fast::hash(&file);
    file.extend_from_slice(&checksum.to_le_bytes());
    file
}

fn header() -> Vec<u8> {
    postcard::to_stdvec(&Header::of_this_program(0)).expect("memory")
}

#[test]
fn what_was_written_is_read() {
    let file = file();
    let snapshot = Snapshot::open(&file).expect("whole");
    assert_eq!(snapshot.header.saved_at, 7);
    let records: Vec<_> = snapshot.records().collect();
    let [Record::Forwarded(ids), Record::Items(items)] = &records[..] else { panic!("{records:?}") };
    assert_eq!((&ids[..], items.len()), (&[[1; 16], [2; 16]][..], 0));
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_not_read() {
    let file = file();
    for length in 0..file.len() {
        assert_eq!(Snapshot::open(&file[..length]).expect_err("cut off"), Unreadable::Damaged, "at {length}");
    }
    assert_eq!(Snapshot::open(&[&file[..], &[0]].concat()).expect_err("too long"), Unreadable::Damaged);
}

#[test]
fn a_file_with_any_bit_flipped_is_not_read() {
    let file = file();
    for at in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        let expected = match at / 8 {
            0..8 => Unreadable::Foreign,
            8..12 => Unreadable::OtherFormat(VERSION ^ 1 << (at - 64)),
            _ => Unreadable::Damaged,
        };
        assert_eq!(Snapshot::open(&flipped).expect_err("flipped"), expected, "bit {at}");
    }
}

#[test]
fn each_reason_is_a_rule_and_what_was_found() {
    assert_eq!(
        Snapshot::open(b"# some text of yours").expect_err("foreign").to_string(),
        "must be a file that laggard has written, and is some other file"
    );
    let mut older = file();
    older[8] = 0;
    assert_eq!(
        Snapshot::open(&older).expect_err("older").to_string(),
        "must have format 2, and has format 0"
    );
    let header = Header { program: "0.0.9".to_owned(), ..Header::of_this_program(0) };
    let other = framed(&[postcard::to_stdvec(&header).expect("memory")]);
    let said = Snapshot::open(&other).expect_err("another version").to_string();
    assert!(said.ends_with("and was written by 0.0.9"), "{said}");
    assert_eq!(Snapshot::open(b"").expect_err("empty"), Unreadable::Damaged);
}

#[test]
fn a_length_beyond_the_end_allocates_nothing() {
    // A record that says it has 2^60 edges, and a frame that says it has 4 GiB.
    let edges = [&[3][..], &[0x80; 8], &[0x10]].concat();
    assert_eq!(Snapshot::open(&framed(&[header(), edges])).expect_err("a lie"), Unreadable::Damaged);
    let mut file = [&MAGIC[..], &VERSION.to_le_bytes(), &[0xff; 4]].concat();
    file.extend_from_slice(&crc32fast::hash(&file).to_le_bytes());
    assert_eq!(Snapshot::open(&file).expect_err("a lie"), Unreadable::Damaged);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Snapshot::open(&bytes).is_err());
        prop_assert!(Snapshot::open(&[&MAGIC[..], &bytes].concat()).is_err());
    }

    #[test]
    fn any_record_behind_a_right_checksum_is_read_or_refused(
        kind in 0_u8..6,
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let record = [&[kind][..], &bytes].concat();
        if let Ok(snapshot) = Snapshot::open(&framed(&[header(), record])) {
            prop_assert_eq!(snapshot.records().count(), 1);
        }
    }
}
