//! The syntax of Java's `.properties` files, as `java.util.Properties.load` reads them.

/// One `key=value` of a file, in the order of the file; a key may come several times, then its last value counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The name, unescaped.
    pub key: String,
    /// The value, unescaped; blanks at its end are kept, as Java keeps them.
    pub value: String,
}

/// A text that `java.util.Properties` refuses too: a `\u` that four hex digits do not follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: malformed \\uxxxx encoding")]
pub struct MalformedEscape {
    /// Where the logical line starts, from 1.
    pub line: usize,
}

/// Reads the bytes of a file. They are UTF-8 or, where that fails, ISO 8859-1, which is all that Java reads: a text in
/// ASCII means the same to both.
pub fn parse(bytes: &[u8]) -> Result<Vec<Property>, MalformedEscape> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    };
    logical_lines(&text)
        .into_iter()
        .map(|(line, text)| property(&text).ok_or(MalformedEscape { line }))
        .collect()
}

/// Joins lines that end with an odd number of backslashes to what follows, and drops comments and blank lines.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut joined = String::new();
    let mut start = 1;
    for (index, natural) in natural_lines(text).enumerate() {
        let natural = natural.trim_start_matches(is_blank);
        if joined.is_empty() {
            if natural.is_empty() || natural.starts_with(['#', '!']) {
                continue;
            }
            start = index + 1;
        }
        let backslashes = natural.len() - natural.trim_end_matches('\\').len();
        let continues = backslashes % 2 == 1;
        joined.push_str(
            natural
                .get(..natural.len() - usize::from(continues))
                .unwrap_or_default(),
        );
        if !continues && !joined.is_empty() {
            lines.push((start, std::mem::take(&mut joined)));
        }
    }
    if !joined.is_empty() {
        lines.push((start, joined));
    }
    lines
}

/// Lines end with `\n`, `\r` or `\r\n`.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .flat_map(|line| line.split('\r'))
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Splits a logical line at its first unescaped `=`, `:` or blank.
fn property(line: &str) -> Option<Property> {
    let mut escaped = false;
    let key_end = line
        .find(|c: char| {
            let ends = !escaped && (is_blank(c) || matches!(c, '=' | ':'));
            escaped = !escaped && c == '\\';
            ends
        })
        .unwrap_or(line.len());
    let (key, rest) = line.split_at(key_end);
    let rest = rest.trim_start_matches(is_blank);
    let value = rest
        .strip_prefix(['=', ':'])
        .unwrap_or(rest)
        .trim_start_matches(is_blank);
    Some(Property {
        key: unescape(key)?,
        value: unescape(value)?,
    })
}

/// `None` when a `\u` is malformed. A pair of surrogates is one character, as Java's strings have it.
fn unescape(text: &str) -> Option<String> {
    if !text.contains('\\') {
        return Some(text.to_owned());
    }
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                None => break,
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some('u') => {
                    let digits = chars.as_str().get(..4)?;
                    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                        return None;
                    }
                    units.push(u16::from_str_radix(digits, 16).ok()?);
                    chars = chars.as_str().get(4..)?.chars();
                    continue;
                }
                Some(other) => other,
            },
            plain => plain,
        };
        units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let parsed = parse(text.as_bytes()).unwrap();
        parsed
            .into_iter()
            .map(|property| (property.key, property.value))
            .collect()
    }

    /// What `java.util.Properties` of Java 17 gives for the same texts.
    #[test]
    fn reads_what_java_reads() {
        for (text, expected) in [
            ("a=b", &[("a", "b")][..]),
            ("a:b", &[("a", "b")]),
            ("a b", &[("a", "b")]),
            ("a = b", &[("a", "b")]),
            ("a\t:\t b", &[("a", "b")]),
            ("a  =  = b", &[("a", "= b")]),
            ("a = b  ", &[("a", "b  ")]),
            ("a", &[("a", "")]),
            ("a=", &[("a", "")]),
            ("=b", &[("", "b")]),
            ("  \t a=b", &[("a", "b")]),
            ("# c\n! d\n  # e\na=b # not a comment", &[("a", "b # not a comment")]),
            ("# no continuation \\\na=b", &[("a", "b")]),
            ("\n \n\t\x0c\na=b\n\n", &[("a", "b")]),
            ("a=1\r\nb=2\rc=3", &[("a", "1"), ("b", "2"), ("c", "3")]),
            ("a=1,\\\n   2,\\\r\n\t3", &[("a", "1,2,3")]),
            ("a=1\\\n# 2", &[("a", "1# 2")]),
            ("a=1\\\\\nb=2", &[("a", "1\\"), ("b", "2")]),
            ("a=1\\\n\nb=2", &[("a", "1"), ("b", "2")]),
            ("\\\n# c\na=1", &[("a", "1")]),
            ("a=1\\", &[("a", "1")]),
            ("a=x\\ty\\n\\q\\\\", &[("a", "x\ty\nq\\")]),
            ("a\\ b\\=c\\:d=e", &[("a b=c:d", "e")]),
            ("a=\\u00e4\\uD83D\\uDE00", &[("a", "ä😀")]),
            ("a=1\na=2", &[("a", "1"), ("a", "2")]),
            ("log.dirs=C:\\\\kafka", &[("log.dirs", "C:\\kafka")]),
        ] {
            let expected: Vec<(String, String)> = expected.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            assert_eq!(pairs(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_malformed_escape_names_its_line() {
        assert_eq!(parse(b"a=1\nb=\\u12x4"), Err(MalformedEscape { line: 2 }));
        assert_eq!(parse("a=\\u12ä".as_bytes()), Err(MalformedEscape { line: 1 }));
    }

    #[test]
    fn bytes_that_are_no_utf8_are_latin_1() {
        assert_eq!(parse(b"a=\xe4").unwrap()[0].value, "ä");
        assert_eq!(parse("a=ä".as_bytes()).unwrap()[0].value, "ä");
    }
}
