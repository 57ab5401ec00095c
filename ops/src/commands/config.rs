//! `config show`: every value, and where it came from.

use serde_json::json;

use crate::cli::ConfigVerb;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{column, rows};

/// Prints the configuration.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(config: &Config, verb: &ConfigVerb) -> anyhow::Result<Exit> {
    let ConfigVerb::Show { origin, output } = verb;
    let list: Vec<_> = config
        .shown()
        .into_iter()
        .map(|(key, value, from)| {
            let mut row = json!({"key": key.name, "value": value});
            if *origin {
                row["origin"] = from.to_string().into();
                row["about"] = key.help.into();
            }
            row
        })
        .collect();
    let mut columns = vec![column("KEY", "key"), column("VALUE", "value")];
    if *origin {
        columns.push(column("ORIGIN", "origin"));
    }
    rows(&mut std::io::stdout().lock(), output.output, &columns, &list)?;
    Ok(Exit::Ok)
}
