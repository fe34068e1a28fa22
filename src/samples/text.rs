//! Texts as the numbers of their tokens.

use tokenizers::{Tokenizer, TruncationParams};

use super::Part;

/// A tokenizer that was read from its file.
#[derive(Debug)]
pub struct TextEncoder {
    tokenizer: Tokenizer,
}

impl TextEncoder {
    /// Reads a `tokenizer.json`. Its own padding and truncation don't count: rows have the length of the graph's input.
    ///
    /// # Errors
    /// In words: what is wrong with the file.
    pub fn new(json: &[u8]) -> Result<Self, String> {
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
        tokenizer.with_padding(None);
        Ok(Self { tokenizer })
    }

    /// Returns one row of `length` numbers. A text that is too long loses its end, but not the tokens that mark it.
    ///
    /// # Errors
    /// In words: a string that can't be tokenized.
    pub fn encode(&mut self, text: &str, length: usize, part: Part, pad: i64) -> Result<Vec<i64>, String> {
        let truncation = TruncationParams { max_length: length, ..TruncationParams::default() };
        self.tokenizer.with_truncation(Some(truncation)).map_err(|error| error.to_string())?;
        // A byte order mark, of a file or a part of one, is no token.
        let text = text.trim_start_matches('\u{feff}');
        let encoding = self.tokenizer.encode(text, true).map_err(|error| error.to_string())?;
        let (numbers, pad) = match part {
            Part::Ids => (encoding.get_ids(), pad),
            Part::AttentionMask => (encoding.get_attention_mask(), 0),
            Part::TypeIds => (encoding.get_type_ids(), 0),
        };
        let mut row: Vec<i64> = numbers.iter().copied().map(i64::from).collect();
        row.resize(length, pad);
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words, between a token for the start and one for the end, as CLIP's.
    const TOKENIZER: &str = r#"{
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
                               "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}},
        "decoder": null,
        "model": {"type": "WordLevel", "unk_token": "?",
                  "vocab": {"?": 0, "<s>": 1, "</s>": 2, "a": 3, "photo": 4, "of": 5, "cat": 6}}
    }"#;

    #[test]
    fn rows_have_the_length_of_the_input() {
        let mut encoder = TextEncoder::new(TOKENIZER.as_bytes()).unwrap();
        let mut row = |length, part, pad| encoder.encode("A photo of a Cat", length, part, pad).unwrap();
        assert_eq!(row(9, Part::Ids, 7), [1, 3, 4, 5, 3, 6, 2, 7, 7]);
        assert_eq!(row(9, Part::AttentionMask, 7), [1, 1, 1, 1, 1, 1, 1, 0, 0]);
        assert_eq!(row(9, Part::TypeIds, 7), [0; 9]);
        // The end is marked, however much is cut off.
        assert_eq!(row(4, Part::Ids, 0), [1, 3, 4, 2]);
    }

    #[test]
    fn a_byte_order_mark_is_no_token() {
        let mut encoder = TextEncoder::new(TOKENIZER.as_bytes()).unwrap();
        let mut row = |text| encoder.encode(text, 5, Part::Ids, 0).unwrap();
        assert_eq!(row("\u{feff}a photo"), row("a photo"));
    }

    #[test]
    fn what_is_no_tokenizer_is_refused() {
        assert!(TextEncoder::new(b"{}").is_err());
        assert!(TextEncoder::new(b"\xff").is_err());
    }
}
