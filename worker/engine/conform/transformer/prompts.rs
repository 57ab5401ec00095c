//! Prompt strings and the exact ids that the Qwen2 tokenizer gives them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{Report, json, task};
use crate::prompt;
use crate::prompt::tokenizer::Tokenizer;

const SEPARATOR: &str = "<reserved08706>";
const PLACEHOLDER: &str = "<|image|>";

#[derive(Deserialize)]
struct File {
    tokenizer: Option<About>,
    #[serde(default)]
    cases: Vec<Case>,
    special_token_injection: Option<Injection>,
}

#[derive(Deserialize)]
struct About {
    #[serde(default)]
    known_ids: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Case {
    task: String,
    width: Option<u32>,
    height: Option<u32>,
    caption: String,
    question: String,
    conversation_string: String,
    text_ids: Vec<u32>,
    layout: Vec<String>,
}

#[derive(Deserialize)]
struct Injection {
    example_caption: String,
    ids_if_plain_text: Vec<u32>,
}

/// `prompts.json`, with the tokenizer in `qwen2/`.
pub(super) fn run(report: &mut Report, dir: &Path) -> Result<(), String> {
    let file: File = json(dir, "prompts.json")?;
    let tokenizer = Tokenizer::read(&dir.join("qwen2"));
    if let Err(error) = &tokenizer {
        report.not_covered("prompts.json: text_ids", &format!("no tokenizer to try: {error}"));
    }
    let tokenizer = tokenizer.ok();
    for (i, case) in file.cases.iter().enumerate() {
        let name = format!("prompts.json: case {i} ({})", case.task);
        report.group(&name, |report| one(report, &name, tokenizer.as_ref(), case));
    }
    let Some(tokenizer) = tokenizer else {
        return Ok(());
    };
    for (token, id) in file.tokenizer.iter().flat_map(|about| &about.known_ids) {
        // Only whole numbers are ids of a name; the rule for codes is text.
        if let Some(id) = id.as_u64() {
            report.equal(
                &format!("prompts.json: id of {token}"),
                &[tokenizer.id(token).map(u64::from)],
                &[Some(id)],
            );
        }
    }
    if let Some(injection) = &file.special_token_injection {
        let ids =
            tokenizer.encode(&injection.example_caption).map_err(|error| error.to_string())?;
        report.equal(
            "prompts.json: special_token_injection.ids_if_plain_text",
            &ids,
            &injection.ids_if_plain_text,
        );
        let why = "names of special tokens in a caption are plain text here";
        report.not_covered("prompts.json: special_token_injection.ids_as_upstream_parses", why);
    }
    Ok(())
}

fn one(
    report: &mut Report,
    name: &str,
    tokenizer: Option<&Tokenizer>,
    case: &Case,
) -> Result<(), String> {
    if let Some(tokenizer) = tokenizer {
        let ids = tokenizer.encode(&case.question).map_err(|error| error.to_string())?;
        report.equal(&format!("{name}: text_ids"), &ids, &case.text_ids);
    }
    let (kind, sub) =
        case.task.split_once(':').map_or((&case.task[..], None), |(kind, sub)| (kind, Some(sub)));
    if kind == "train" {
        report.not_covered(&format!("{name}: question"), "a string of the training alone");
        return Ok(());
    }
    let task = task(kind, sub).ok_or("an unknown task")?;
    let (width, height) = case.width.zip(case.height).ok_or("no size")?;
    let text = prompt::text(&task, width, height, &case.caption);
    let mut conversation = format!("{text}{SEPARATOR}");
    let mut layout = vec!["<BOS>", "text_ids", "<SEP>"];
    if task.needs_panel() {
        conversation += &format!("{PLACEHOLDER}{SEPARATOR}");
        layout.push("<IMAGE_PREFIX>");
    }
    report.equal(&format!("{name}: question"), &[text], std::slice::from_ref(&case.question));
    report.equal(
        &format!("{name}: conversation_string"),
        &[conversation],
        std::slice::from_ref(&case.conversation_string),
    );
    let recorded: Vec<&str> = case.layout.iter().map(String::as_str).collect();
    report.equal(&format!("{name}: layout"), &layout, &recorded);
    Ok(())
}
