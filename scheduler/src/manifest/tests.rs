use super::*;

/// The rows of a text, or the message of the first problem. The text is cut into small pieces on the way.
fn read(format: ManifestFormat, columns: &[(&str, &str)], text: &[u8]) -> Result<Vec<InputRow>, String> {
    let columns: BTreeMap<String, String> =
        columns.iter().map(|(logical, column)| ((*logical).to_owned(), (*column).to_owned())).collect();
    let input = InputSpec::Manifest {
        uri: "s3://b/x".to_owned(),
        format,
        columns: columns.clone(),
        id_column: Some(columns.get("id").cloned().unwrap_or_else(|| "id".to_owned())),
        limit: None,
    };
    let pieces: Vec<Result<Vec<u8>, ObjectsError>> = text.chunks(7).map(|piece| Ok(piece.to_vec())).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let told = |error| match error {
            RowError::Problem(problem) => problem.to_string(),
            RowError::Objects(error) => error.to_string(),
        };
        let bytes: Bytes = Box::pin(stream::iter(pieces));
        let mut manifest = Manifest::read(&input, "s3://b/x", format, &columns, bytes).await.map_err(told)?;
        let mut rows = Vec::new();
        while let (Some(row), _) = manifest.next(rows.len() as u64).await.map_err(told)? {
            rows.push(row);
        }
        Ok(rows)
    })
}

fn jsonl(text: &str) -> Result<Vec<InputRow>, String> {
    read(ManifestFormat::Jsonl, &[("prompt", "prompt")], text.as_bytes())
}

fn csv(text: &str) -> Result<Vec<InputRow>, String> {
    read(ManifestFormat::Csv, &[("prompt", "caption"), ("id", "name")], text.as_bytes())
}

#[test]
fn json_lines_keep_their_columns_and_ids() {
    let rows = jsonl("{\"id\": 7, \"prompt\": \"a\", \"tag\": [1]}\r\n\n{\"prompt\":\"b\"}").unwrap();
    assert_eq!((rows[0].index, rows[0].id.as_deref()), (0, Some("7")));
    assert_eq!(rows[0].fields["tag"], serde_json::json!([1]));
    assert_eq!((rows[1].index, rows[1].id.as_deref(), rows.len()), (1, None, 2));
}

#[test]
fn json_mistakes_have_a_place() {
    assert_eq!(
        jsonl("{\"prompt\":\"fine\"}\n{\"prompt\":\"bad\u{1}\"}\n").unwrap_err(),
        "s3://b/x:2:15: invalid JSON (control character in string); 1 rows before it are fine"
    );
    assert_eq!(
        jsonl("[1]\n").unwrap_err(),
        "s3://b/x:1:1: expected a JSON object, { ... }; 0 rows before it are fine"
    );
    assert_eq!(
        jsonl("{\"promt\":\"x\",\"id\":\"a\"}\n").unwrap_err(),
        "columns.prompt: \"prompt\" is not in s3://b/x (columns: id, promt)"
    );
    let bytes = [b"{\"prompt\":\"a\"}\n{\"prompt\":\"".as_slice(), b"\xff\"}\n"].concat();
    assert_eq!(
        read(ManifestFormat::Jsonl, &[], &bytes).unwrap_err(),
        "s3://b/x:2:12: the file is not UTF-8 text here; 1 rows before it are fine"
    );
}

#[test]
fn csv_records_may_span_lines() {
    let rows = csv("name,caption\r\na,\"two\r\nlines, one \"\"cell\"\"\"\r\nb,plain\r\n").unwrap();
    assert_eq!(rows[0].fields["caption"], "two\nlines, one \"cell\"");
    assert_eq!((rows[1].id.as_deref(), rows.len()), (Some("b"), 2));
}

#[test]
fn csv_mistakes_have_a_place() {
    assert_eq!(
        csv("id,caption\n1,x\n").unwrap_err(),
        "columns.id: \"name\" is not in s3://b/x (columns: id, caption)"
    );
    assert_eq!(
        csv("name,caption\na,x\nb,y,z\n").unwrap_err(),
        "s3://b/x:3: 3 values, but the header names 2 columns; 1 rows before it are fine"
    );
    assert_eq!(
        csv("name,caption\na,\"x\n").unwrap_err(),
        "s3://b/x:2: a quote is opened and never closed; 0 rows before it are fine"
    );
    assert_eq!(
        csv("name,caption,name\n").unwrap_err(),
        "s3://b/x:1: the header names the column \"name\" twice; 0 rows before it are fine"
    );
    assert_eq!(
        csv("name,caption\n,x\n").unwrap_err(),
        "s3://b/x:2: there is no value in column \"name\"; 0 rows before it are fine"
    );
}

#[test]
fn a_text_has_a_prompt_a_line() {
    let rows = read(ManifestFormat::Txt, &[], b"one\n\n  two  \n").unwrap();
    let prompts: Vec<&Value> = rows.iter().map(|row| &row.fields["prompt"]).collect();
    assert_eq!(prompts, ["one", "two"]);
}
