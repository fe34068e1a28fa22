//! Any bytes as a passport: what is read is written and read again, and so is what a release has of it.
//!
//! Errors are fine. Panics and overflows are not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nimctl::passport::Passport;

fuzz_target!(|data: &[u8]| {
    let passport = match Passport::parse(data, "passport.json") {
        Ok(passport) => passport,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let text = serde_json::to_vec(&passport).expect("a passport is JSON");
    let again = Passport::parse(&text, "again").expect("what we write we read");
    assert_eq!(again, passport);
    let released = Passport::parse(&passport.for_release(), "released").expect("what we release we read");
    assert_eq!(released.graphs, passport.without_measurements().graphs);
    assert_eq!(released.for_release(), passport.for_release());
});
