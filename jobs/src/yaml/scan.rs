//! From text to nodes, within limits: one document, no tags, no merge keys, no key twice.
//!
//! Aliases are followed by sharing, and what they would expand to is counted before anything is built from it.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use crate::yaml::diagnostic::{Diagnostic, Severity};
use crate::yaml::node::{Content, Entry, Node, Pos, quoted};

/// The largest spec, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// The deepest nesting of lists and mappings.
const MAX_DEPTH: usize = 32;
/// The most nodes, aliases expanded.
const MAX_NODES: usize = 20_000;
/// The most bytes of scalars, aliases expanded.
const MAX_EXPANDED_BYTES: usize = 4 * MAX_BYTES;

/// What was read, and the mistakes after which reading could go on.
pub(crate) struct Scanned {
    pub(crate) root: Node,
    pub(crate) mistakes: Vec<Diagnostic>,
}

/// Reads one YAML document.
///
/// # Errors
/// The mistakes that were found up to and with the one that stopped the reading.
pub(crate) fn scan(text: &str) -> Result<Scanned, Vec<Diagnostic>> {
    let start = Pos { line: 1, column: 1, width: 1 };
    if text.len() > MAX_BYTES {
        #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
        let mib = text.len() as f64 / f64::from(1 << 20);
        let help = "put the rows into a manifest file".to_owned();
        return Err(vec![mistake(
            "spec::too_large",
            start,
            format!("file is {mib:.1} MiB, limit 1 MiB"),
            Some(help),
        )]);
    }
    if let Some(control) = find_control(text) {
        return Err(vec![control]);
    }
    let mut builder = Builder {
        text,
        stack: Vec::new(),
        root: None,
        anchors: HashMap::new(),
        total: Size::default(),
        mistakes: Vec::new(),
    };
    match builder.run() {
        Ok(()) => {}
        Err(fatal) => {
            builder.mistakes.push(*fatal);
            return Err(builder.mistakes);
        }
    }
    match builder.root {
        Some(root) if !root.is_null() => Ok(Scanned { root, mistakes: builder.mistakes }),
        _ => Err(vec![mistake(
            "spec::empty",
            start,
            "the file is empty".to_owned(),
            Some("start with apiVersion: nightshift/v1".to_owned()),
        )]),
    }
}

/// A mistake of the text.
fn mistake(code: &str, at: Pos, message: String, help: Option<String>) -> Diagnostic {
    Diagnostic {
        code: code.to_owned(),
        severity: Severity::Error,
        message,
        path: String::new(),
        line: at.line,
        column: at.column,
        width: at.width,
        help,
    }
}

/// The first control character that YAML does not allow.
fn find_control(text: &str) -> Option<Diagnostic> {
    let (mut line, mut column) = (1, 0);
    for c in text.chars() {
        column += 1;
        match c {
            '\n' => (line, column) = (line + 1, 0),
            '\t' | '\r' | '\u{85}' => {}
            c if c.is_control() => {
                let at = Pos { line, column, width: 1 };
                let message = format!("control character U+{:04X} is not allowed", u32::from(c));
                return Some(mistake("spec::control_character", at, message, None));
            }
            _ => {}
        }
    }
    None
}

/// What a node stands for when its aliases are expanded.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
}

impl Size {
    fn add(&mut self, other: Self) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// A list or mapping that is still open.
struct Open {
    at: Pos,
    anchor: usize,
    /// The count when it was opened, to know what it stands for.
    before: Size,
    content: OpenContent,
}

enum OpenContent {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: BTreeMap<Rc<str>, Pos>, key: Option<(Rc<str>, Pos)> },
}

struct Builder<'t> {
    text: &'t str,
    stack: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, (Node, Size)>,
    total: Size,
    mistakes: Vec<Diagnostic>,
}

/// The mistake that ends the reading.
type Fatal = Box<Diagnostic>;

impl Builder<'_> {
    fn run(&mut self) -> Result<(), Fatal> {
        let mut documents = 0;
        for event in Parser::new_from_str(self.text) {
            let (event, span) = event.map_err(|error| Box::new(self.syntax(&error)))?;
            let at = position(span);
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let help =
                            "`nightshift submit` takes one job per file; use `--multi`".to_owned();
                        let at = Pos { width: 3, ..at };
                        return Err(Box::new(mistake(
                            "spec::two_documents",
                            at,
                            "a second document starts here".to_owned(),
                            Some(help),
                        )));
                    }
                }
                Event::Alias(anchor) => self.alias(anchor, at)?,
                Event::Scalar(text, style, anchor, tag) => {
                    self.refuse_tag(tag.as_deref(), at);
                    if text.contains('\0') {
                        // Postgres keeps no such text.
                        let message = "control character U+0000 is not allowed".to_owned();
                        self.mistakes.push(mistake("spec::control_character", at, message, None));
                    }
                    let text: Rc<str> = Rc::from(&*text);
                    let size = Size { nodes: 1, bytes: text.len() };
                    self.count(size, at)?;
                    let plain = style == ScalarStyle::Plain;
                    self.place(
                        Node { at, content: Content::Scalar { text, plain } },
                        anchor,
                        size,
                    )?;
                }
                Event::SequenceStart(anchor, tag) => {
                    self.refuse_tag(tag.as_deref(), at);
                    self.open(OpenContent::List(Vec::new()), anchor, at)?;
                }
                Event::MappingStart(anchor, tag) => {
                    self.refuse_tag(tag.as_deref(), at);
                    self.open(
                        OpenContent::Map { entries: Vec::new(), seen: BTreeMap::new(), key: None },
                        anchor,
                        at,
                    )?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close()?,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        Ok(())
    }

    fn open(&mut self, content: OpenContent, anchor: usize, at: Pos) -> Result<(), Fatal> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(Box::new(mistake(
                "spec::too_deep",
                at,
                format!("nested deeper than {MAX_DEPTH}"),
                None,
            )));
        }
        let before = self.total;
        self.count(Size { nodes: 1, bytes: 0 }, at)?;
        self.stack.push(Open { at, anchor, before, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fatal> {
        let Some(open) = self.stack.pop() else {
            return Ok(());
        };
        let size = Size {
            nodes: self.total.nodes - open.before.nodes,
            bytes: self.total.bytes - open.before.bytes,
        };
        let content = match open.content {
            OpenContent::List(elements) => Content::List(elements.into()),
            OpenContent::Map { entries, .. } => Content::Map(entries.into()),
        };
        self.place(Node { at: open.at, content }, open.anchor, size)
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node, anchor: usize, size: Size) -> Result<(), Fatal> {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.stack.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(OpenContent::List(elements)) => elements.push(node),
            Some(OpenContent::Map { key: waiting @ None, .. }) => {
                let Content::Scalar { text, .. } = &node.content else {
                    let message = "a key must be a text, not a list or a mapping".to_owned();
                    let help = "templates need quotes: \"{{ path }}\"".to_owned();
                    return Err(Box::new(mistake("spec::bad_key", node.at, message, Some(help))));
                };
                *waiting = Some((Rc::clone(text), node.at));
            }
            Some(OpenContent::Map { entries, seen, key }) => {
                let (key, key_at) = key.take().expect("the arm above took the case without a key");
                if let Some(first) = seen.get(&key) {
                    let message =
                        format!("{} is given twice (first on line {})", quoted(&key), first.line);
                    self.mistakes.push(mistake("spec::duplicate_key", key_at, message, None));
                } else if &*key == "<<" {
                    let help = "write the keys out, or use an alias for the whole value".to_owned();
                    self.mistakes.push(mistake(
                        "spec::merge_key",
                        key_at,
                        "merge keys (<<) are not supported".to_owned(),
                        Some(help),
                    ));
                } else {
                    seen.insert(Rc::clone(&key), key_at);
                    entries.push(Entry { key, key_at, value: node });
                }
            }
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: Pos) -> Result<(), Fatal> {
        let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
            let message = "an alias stands inside its own anchor".to_owned();
            return Err(Box::new(mistake("spec::recursive_alias", at, message, None)));
        };
        self.count(size, at)?;
        self.place(node, 0, size)
    }

    fn count(&mut self, size: Size, at: Pos) -> Result<(), Fatal> {
        self.total.add(size);
        let over = if self.total.nodes > MAX_NODES {
            format!("{MAX_NODES} nodes")
        } else if self.total.bytes > MAX_EXPANDED_BYTES {
            "4 MiB of text".to_owned()
        } else {
            return Ok(());
        };
        let aliases = self.alias_names();
        if aliases.is_empty() {
            let help = "put the rows into a manifest file".to_owned();
            return Err(Box::new(mistake(
                "spec::too_many_nodes",
                at,
                format!("the document has more than {over}"),
                Some(help),
            )));
        }
        let message = format!("the document expands to more than {over} (aliases {aliases} …)");
        Err(Box::new(mistake("spec::too_many_nodes", at, message, None)))
    }

    /// The first names of aliases in the text, for a message; a star inside other text may be taken for one.
    fn alias_names(&self) -> String {
        if self.anchors.is_empty() {
            return String::new();
        }
        let mut names: Vec<&str> = Vec::new();
        for word in self.text.split([' ', ',', '[', ']', '{', '}', '\n', '\r']) {
            let is_alias = word.len() > 1 && word.starts_with('*') && !word[1..].contains('*');
            if is_alias && !names.contains(&word) {
                names.push(word);
            }
            if names.len() == 3 {
                break;
            }
        }
        names.join(", ")
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, at: Pos) {
        let Some(tag) = tag else {
            return;
        };
        let written = match tag.handle.as_str() {
            "tag:yaml.org,2002:" | "!!" => format!("!!{}", tag.suffix),
            "!" => format!("!{}", tag.suffix),
            "" => format!("!<{}>", tag.suffix),
            handle => format!("{handle}{}", tag.suffix),
        };
        let at = self.find_before(&written, at);
        self.mistakes.push(mistake(
            "spec::tag",
            at,
            format!("tag {} is not supported", quoted(&written)),
            None,
        ));
    }

    /// Where a text stands last before a position, on the same line or the two before; else the position itself.
    fn find_before(&self, written: &str, at: Pos) -> Pos {
        let first = at.line.saturating_sub(3);
        let lines: Vec<&str> = self.text.split('\n').skip(first).take(at.line - first).collect();
        for (n, line) in lines.iter().enumerate().rev() {
            let limit = if first + n + 1 == at.line {
                at.column + written.chars().count()
            } else {
                usize::MAX
            };
            if let Some(byte) = line.rfind(written) {
                let column = line[..byte].chars().count() + 1;
                if column <= limit {
                    return Pos { line: first + n + 1, column, width: written.chars().count() };
                }
            }
        }
        at
    }

    fn syntax(&self, error: &saphyr_parser::ScanError) -> Diagnostic {
        let marker = error.marker();
        let at = Pos { line: marker.line().max(1), column: marker.col() + 1, width: 1 };
        if error.info().contains("recursion limit") {
            return mistake("spec::too_deep", at, format!("nested deeper than {MAX_DEPTH}"), None);
        }
        // The parser words a tab in many ways: what the user must know is one.
        let after = if error.info().contains("tab") { at.line + 1 } else { 0 };
        for line in [at.line, at.line.saturating_sub(1), after] {
            let source = self.text.split('\n').nth(line.saturating_sub(1)).unwrap_or_default();
            let blank: String = source.chars().take_while(|c| matches!(c, ' ' | '\t')).collect();
            if let Some(tab) = blank.find('\t').filter(|_| line > 0) {
                let at = Pos { line, column: tab + 1, width: 1 };
                let message = "a tab is used for indentation here; YAML needs spaces".to_owned();
                return mistake("spec::tab", at, message, None);
            }
        }
        let help = self
            .text
            .split('\n')
            .nth(at.line - 1)
            .filter(|line| line.contains("{{"))
            .map(|_| "templates need quotes: \"{{ path }}\"".to_owned());
        mistake("spec::syntax", at, format!("this is not YAML: {}", error.info()), help)
    }
}

fn position(span: Span) -> Pos {
    let one_line = span.start.line() == span.end.line() && span.end.col() > span.start.col();
    let width = if one_line { span.end.col() - span.start.col() } else { 1 };
    Pos { line: span.start.line().max(1), column: span.start.col() + 1, width }
}
