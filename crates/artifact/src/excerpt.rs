//! Foreign text inside error messages.

/// The longest piece of foreign text that an error message repeats, in characters.
const LONGEST: usize = 120;

/// `text` without control characters and cut to a length that fits an event or a log line.
pub(crate) fn excerpt(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(LONGEST));
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn long_text_is_cut_and_control_characters_are_spelled_out() {
        assert_eq!(excerpt("a\nb\u{1b}"), "a\\nb\\u{1b}");
        let shown = excerpt(&"x".repeat(10_000));
        assert_eq!(shown.chars().count(), 121);
        assert!(shown.ends_with('…'));
    }
}
