//! Records and documents of an earlier nimctl, which have to be read for ever.

use super::*;

const RECORD: &[u8] = include_bytes!("../../tests/fixtures/formats/build.json");
const DOCUMENT: &[u8] = include_bytes!("../../tests/fixtures/formats/build-key.json");

#[test]
fn golden_records_are_read_and_their_keys_hold() {
    let record = BuildRecord::parse(RECORD, "r").unwrap();
    assert_eq!(record.document.key().unwrap(), record.key);
    assert!(record.total_ms() > 0);
    let document = BuildKeyDocument::parse(DOCUMENT, "d").unwrap();
    assert_eq!(document.action, Action::Compile("fake".into()));
}

/// A store that an earlier nimctl wrote has nothing to build again: every key is what it was.
#[test]
fn golden_documents_are_written_as_they_were() {
    let record = BuildRecord::parse(RECORD, "r").unwrap();
    let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    assert_eq!(value(&serde_json::to_vec(&record).unwrap()), value(RECORD));
    let document = BuildKeyDocument::parse(DOCUMENT, "d").unwrap();
    assert_eq!(value(&serde_json::to_vec(&document).unwrap()), value(DOCUMENT));
}

#[test]
fn a_record_of_a_release_has_no_measurements() {
    let record = BuildRecord::parse(RECORD, "r").unwrap();
    let text = serde_json::to_string(&record.without_measurements()).unwrap();
    assert!(!text.contains("timings") && !text.contains("peak_memory_bytes"), "{text}");
    assert_eq!(BuildRecord::parse(text.as_bytes(), "r").unwrap(), record.without_measurements());
}

#[test]
fn newer_ones_are_refused() {
    let newer = |bytes: &[u8], schema: &str| {
        let text = String::from_utf8_lossy(bytes);
        text.replacen(&format!("{schema}/1"), &format!("{schema}/2"), 1).into_bytes()
    };
    for schema in ["nimctl.build", "nimctl.build-key"] {
        let error = BuildRecord::parse(&newer(RECORD, schema), "r").unwrap_err().to_string();
        assert!(error.starts_with(&format!("r: written by a newer nimctl (schema {schema}/2")), "{error}");
    }
    let error = BuildKeyDocument::parse(&newer(DOCUMENT, "nimctl.build-key"), "d").unwrap_err().to_string();
    assert!(error.starts_with("d: written by a newer nimctl"), "{error}");
}
