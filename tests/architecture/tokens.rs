//! Rust text as words and signs: as much of the language as is needed to see who names whom.

/// A word or a sign; comments, texts and numbers are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_word(&self) -> bool {
        self.0.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The tokens of a text.
///
/// # Panics
/// A literal or a comment does not end: the compiler would refuse the text.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => comment(rest),
            '"' => quoted(rest),
            '\'' => lifetime_or_char(rest),
            _ if c.is_alphabetic() || c == '_' => {
                let word =
                    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                match literal(rest, word) {
                    Some(length) => length,
                    None => {
                        // `r#type` is the word `type`.
                        let raw = &rest[..word] == "r" && rest[word..].starts_with('#');
                        if !raw {
                            found.push(Token(rest[..word].to_owned()));
                        }
                        word + usize::from(raw)
                    }
                }
            }
            _ if c.is_ascii_digit() => {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            }
            _ if rest.starts_with("::") => {
                found.push(Token("::".to_owned()));
                2
            }
            _ => {
                if !c.is_whitespace() {
                    found.push(Token(c.to_string()));
                }
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    found
}

/// Length of a text that begins with a prefix such as `b`, `r#` or `br##`, whose letters are the first `word` bytes.
fn literal(rest: &str, word: usize) -> Option<usize> {
    let after = &rest[word..];
    match &rest[..word] {
        "b" | "c" if after.starts_with('"') => Some(word + quoted(after)),
        "b" if after.starts_with('\'') => Some(word + lifetime_or_char(after)),
        "r" | "br" | "cr" => {
            let fences = after.len() - after.trim_start_matches('#').len();
            let body = after[fences..].strip_prefix('"')?;
            let end = format!("\"{}", "#".repeat(fences));
            let length = body.find(&end).expect("a raw text ends");
            Some(word + fences + 1 + length + end.len())
        }
        _ => None,
    }
}

/// Length of a text in double quotes.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    let end = rest.char_indices().skip(1).find(|&(_, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.expect("a text ends").0 + 1
}

/// Length of `'a` or `'x'`.
fn lifetime_or_char(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escaped, c))) => {
            let from = escaped + c.len_utf8();
            from + rest[from..].find('\'').expect("a character ends") + 1
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => {
            let name = |c: char| !c.is_alphanumeric() && c != '_';
            1 + rest[1..].find(name).unwrap_or(rest.len() - 1)
        }
    }
}

/// Length of a block comment; they nest.
fn comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += rest[at..].chars().next().expect("a comment ends").len_utf8();
        }
        if depth == 0 {
            return at;
        }
    }
}

/// Index of the bracket that closes the first token, which opens one.
pub(crate) fn closing(tokens: &[Token]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    panic!("a bracket is not closed")
}

/// Leaves out attributes and, unless `tests`, the items that exist only for tests.
pub(crate) fn without_attributes(tokens: &[Token], tests: bool) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let bang = usize::from(tokens.get(at + 1).is_some_and(|t| t.as_str() == "!"));
        let opens = tokens.get(at + 1 + bang).is_some_and(|t| t.as_str() == "[");
        if tokens[at].as_str() != "#" || !opens {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let start = at + 1 + bang;
        let end = start + closing(&tokens[start..]);
        let words: Vec<&str> = tokens[start + 1..end].iter().map(Token::as_str).collect();
        at = end + 1;
        let only = matches!(
            words[..],
            ["cfg", "(", "test", ")"] | ["cfg", "(", "all", "(", "test", ..] | ["test", ..]
        );
        if only && !tests {
            at += item_end(&tokens[at..]);
        }
    }
    kept
}

/// Tokens of the item that begins here, its further attributes included.
fn item_end(tokens: &[Token]) -> usize {
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "[" | "(" => at += closing(&tokens[at..]),
            "{" => {
                let end = at + closing(&tokens[at..]);
                // `use a::{b, c};`
                return end
                    + 1
                    + usize::from(tokens.get(end + 1).is_some_and(|t| t.as_str() == ";"));
            }
            ";" | "," => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}
