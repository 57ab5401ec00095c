use super::*;

/// The rows of a text, or the message of the first problem. The text is cut into small pieces on the way.
fn read(extension: &str, columns: &str, text: &[u8]) -> Result<Vec<InputRow>, String> {
    let spec = format!(
        "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {{name: test}}\ninput: {{manifest: s3://inputs/x.{extension}{columns}}}\n\
         generate: {{size: 64x64, seeds: [1]}}\noutput: {{dest: s3://outputs/x/}}\n"
    );
    let parsed =
        nightshift_jobs::parse("spec.yaml", &spec).unwrap_or_else(|errors| panic!("{errors}"));
    let pieces: Vec<Result<Vec<u8>, ObjectsError>> =
        text.chunks(7).map(|piece| Ok(piece.to_vec())).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let told = |error| match error {
            RowError::Problem(problem) => problem.render("spec.yaml", &spec),
            RowError::Objects(error) => error.to_string(),
            RowError::Disk(error) => error.to_string(),
        };
        let bytes: Bytes = Box::pin(stream::iter(pieces));
        let mut manifest = Manifest::read(&parsed, bytes).await.map_err(told)?;
        let mut rows = Vec::new();
        while let Some((row, _)) = manifest.next(rows.len() as u64).await.map_err(told)? {
            rows.push(row);
        }
        Ok(rows)
    })
}

fn jsonl(text: &str) -> Result<Vec<InputRow>, String> {
    read("jsonl", "", text.as_bytes())
}

fn csv(text: &str) -> Result<Vec<InputRow>, String> {
    read("csv", ", columns: {prompt: caption, id: name}", text.as_bytes())
}

#[test]
fn json_lines_keep_their_columns_and_ids() {
    let rows =
        jsonl("{\"id\": 7, \"prompt\": \"a\", \"tag\": [1]}\r\n\n{\"prompt\":\"b\"}").unwrap();
    assert_eq!((rows[0].index, rows[0].id.as_deref()), (0, Some("7")));
    assert_eq!(rows[0].fields["tag"], serde_json::json!([1]));
    assert_eq!((rows[1].index, rows[1].id.as_deref(), rows.len()), (1, None, 2));
}

#[test]
fn json_mistakes_have_a_place() {
    let bytes = [b"{\"prompt\":\"a\"}\n{\"prompt\":\"".as_slice(), b"\xff\"}\n"].concat();
    let told = [
        jsonl("{\"prompt\":\"fine\"}\n{\"prompt\":\"bad\u{1}\"}\n"),
        jsonl("[1]\n"),
        jsonl("{\"promt\":\"x\",\"id\":\"a\"}\n"),
        read("jsonl", "", &bytes),
    ];
    insta::assert_snapshot!(told.map(Result::unwrap_err).join("\n"));
}

#[test]
fn csv_records_may_span_lines() {
    let rows = csv("name,caption\r\na,\"two\r\nlines, one \"\"cell\"\"\"\r\nb,plain\r\n").unwrap();
    assert_eq!(rows[0].fields["caption"], "two\nlines, one \"cell\"");
    assert_eq!((rows[1].id.as_deref(), rows.len()), (Some("b"), 2));
}

#[test]
fn csv_mistakes_have_a_place() {
    let told = [
        csv("id,caption\n1,x\n"),
        csv("name,caption\na,x\nb,y,z\n"),
        csv("name,caption\na,\"x\n"),
        csv("name,caption,name\n"),
        csv("name,caption\n,x\n"),
    ];
    insta::assert_snapshot!(told.map(Result::unwrap_err).join("\n"));
}

#[test]
fn a_text_has_a_prompt_a_line() {
    let rows = read("txt", "", b"one\n\n  two  \n").unwrap();
    let prompts: Vec<&Value> = rows.iter().map(|row| &row.fields["prompt"]).collect();
    assert_eq!(prompts, ["one", "two"]);
}
