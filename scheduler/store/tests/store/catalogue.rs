//! Rules of migrations/README.md that the catalogue can answer.

use nightshift_store::{
    AttemptOutcome, ItemStatus, JobState, LEGAL_JOB_MOVES, LEGAL_SHARD_MOVES, Schema, ShardKind,
    ShardState,
};

use crate::lab::Lab;

#[tokio::test]
async fn legal_moves_and_enums_are_those_of_state_rs() {
    let lab = Lab::new().await;
    let moves = |noun: &str| {
        format!(
            "select string_agg(from_state || '>' || to_state, ' ' order by from_state collate \"C\", to_state collate \"C\") from nightshift.legal_move where noun = '{noun}'"
        )
    };
    let mut jobs: Vec<_> = LEGAL_JOB_MOVES.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let mut shards: Vec<_> =
        LEGAL_SHARD_MOVES.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    for (noun, rust) in [("job", &mut jobs), ("shard", &mut shards)] {
        rust.sort_unstable();
        let rust: Vec<_> = rust.iter().map(|(a, b)| format!("{a}>{b}")).collect();
        assert_eq!(lab.text(&moves(noun)).await, rust.join(" "), "{noun}");
    }
    let names = |all: &[&str]| all.join(" ");
    for (name, rust) in [
        ("job_state", names(&JobState::ALL.iter().map(|s| s.as_str()).collect::<Vec<_>>())),
        ("shard_state", names(&ShardState::ALL.iter().map(|s| s.as_str()).collect::<Vec<_>>())),
        ("shard_kind", names(&ShardKind::ALL.iter().map(|s| s.as_str()).collect::<Vec<_>>())),
        (
            "attempt_outcome",
            names(&AttemptOutcome::ALL.iter().map(|s| s.as_str()).collect::<Vec<_>>()),
        ),
        ("item_status", names(&ItemStatus::ALL.iter().map(|s| s.as_str()).collect::<Vec<_>>())),
    ] {
        assert_eq!(
            lab.text(&format!(
                "select string_agg(e::text, ' ') from unnest(enum_range(null::nightshift.{name})) e"
            ))
            .await,
            rust
        );
    }
    // The moves are enforced, not only listed.
    lab.ready(4, 4).await;
    assert!(lab.sql_as(None, "update nightshift.job set state = 'submitted'").await.is_err());
}

#[tokio::test]
async fn everything_is_commented_and_every_check_named() {
    let lab = Lab::new().await;
    let bare = lab
        .text("select string_agg(c.relname || '.' || a.attname, ', ') from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not attisdropped
            where c.relnamespace = 'nightshift'::regnamespace and c.relkind in ('r', 'p', 'c') and col_description(c.oid, a.attnum) is null")
        .await;
    assert_eq!(bare, "", "columns without a comment");
    let bare = lab
        .text("select string_agg(relname, ', ') from pg_class c where relnamespace = 'nightshift'::regnamespace and relkind in ('r', 'p', 'v', 'S')
            and not (relkind = 'S' and relname like '%_id_seq') and obj_description(c.oid) is null")
        .await;
    assert_eq!(bare, "", "relations without a comment");
    let bare = lab
        .text("select string_agg(oid::regprocedure::text, ', ') from pg_proc p where pronamespace = 'nightshift'::regnamespace and obj_description(p.oid) is null")
        .await;
    assert_eq!(bare, "", "functions without a comment");
    let unnamed = lab
        .text("select string_agg(conname, ', ') from pg_constraint where connamespace = 'nightshift'::regnamespace and contype = 'c' and conname ~ '_check[0-9]*$'")
        .await;
    assert_eq!(unnamed, "", "CHECKs that Postgres had to name");
}

#[tokio::test]
async fn definer_functions_pin_their_path_and_nothing_is_open_to_everybody() {
    let lab = Lab::new().await;
    let loose = lab
        .text("select string_agg(oid::regprocedure::text, ', ') from pg_proc where pronamespace = 'nightshift'::regnamespace and prosecdef
            and not coalesce('search_path=nightshift, pg_temp' = any (proconfig), false)")
        .await;
    assert_eq!(loose, "", "security definer without a pinned path");
    let open = lab
        .text("select string_agg(oid::regprocedure::text, ', ') from pg_proc where pronamespace = 'nightshift'::regnamespace
            and (proacl is null or exists (select from aclexplode(proacl) where grantee = 0))")
        .await;
    assert_eq!(open, "", "functions that everybody may call");
    let theirs = lab
        .text("select string_agg(oid::regprocedure::text, ', ') from pg_proc where pronamespace = 'nightshift'::regnamespace and proowner <> 'nightshift_owner'::regrole")
        .await;
    assert_eq!(theirs, "", "functions of another owner");
    // What workers and schedulers call must be of the owner's rights: they have none of their own.
    let powerless = lab
        .text("select string_agg(p.oid::regprocedure::text, ', ') from pg_proc p, aclexplode(p.proacl) x where p.pronamespace = 'nightshift'::regnamespace
            and x.grantee in ('nightshift_worker'::regrole, 'nightshift_scheduler'::regrole) and not p.prosecdef and p.proname <> 'versions'")
        .await;
    assert_eq!(powerless, "");
    let views = lab
        .text("select string_agg(relname, ', ') from pg_class where relnamespace = 'nightshift'::regnamespace and relkind = 'v'
            and not coalesce('security_invoker=true' = any (reloptions), false)")
        .await;
    assert_eq!(views, "", "views with the rights of their owner");
    let now = lab
        .text("select string_agg(proname, ', ') from pg_proc where pronamespace = 'nightshift'::regnamespace and proname <> 'clock'
            and prosrc ~ '(now\\(\\)|current_timestamp|clock_timestamp)'")
        .await;
    assert_eq!(now, "", "functions with a clock of their own");
    let unprotected = lab
        .text("select string_agg(relname, ', ') from pg_class c where relnamespace = 'nightshift'::regnamespace and relkind in ('r', 'p') and not relrowsecurity
            and has_table_privilege('nightshift_tenant', c.oid, 'select')")
        .await;
    assert_eq!(unprotected, "fingerprint", "readable tables without row-level security");
}

#[tokio::test]
async fn functions_and_views_are_sound_and_may_be_applied_again() {
    let lab = Lab::new().await;
    // Migrating makes them in the order of their files, and so cannot look at what bodies name.
    for file in Schema::CURRENT.functions.iter().chain(Schema::CURRENT.views) {
        lab.sql(&format!("begin; {} commit", file.sql)).await;
    }
}

/// What is made is made in one place: `create function` and its like, by name and arguments, over all files.
#[test]
fn every_function_view_trigger_and_type_stands_once() {
    let Schema { tables, functions, views, upgrades } = Schema::CURRENT;
    let mut made = std::collections::BTreeMap::<String, Vec<&str>>::new();
    for file in tables.iter().chain(functions).chain(views) {
        for made_here in definitions(file.sql) {
            made.entry(made_here).or_default().push(file.name);
        }
    }
    assert!(made.len() > 200, "the files were read: {}", made.len());
    made.retain(|_, places| places.len() > 1);
    assert!(made.is_empty(), "defined more than once: {made:?}");
    for file in upgrades {
        let kinds = ["function", "view", "trigger"];
        let again: Vec<_> = definitions(file.sql)
            .into_iter()
            .filter(|made| kinds.iter().any(|kind| made.starts_with(kind)))
            .collect();
        assert!(again.is_empty(), "{} makes what functions/ and views/ hold: {again:?}", file.name);
    }
    let twice = "create function f(a int) returns int\ncreate or replace function f(b int, c text default null)\ncreate view v as\n";
    assert_eq!(definitions(twice), ["function f(int)", "function f(int, text)", "view v"]);
}

/// `function claim(bigint, int, int)`, `view jobs`, ...: one for each line of SQL that begins with `create`.
fn definitions(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in
        sql.match_indices("create ").filter(|(at, _)| *at == 0 || sql[..*at].ends_with('\n'))
    {
        let words = sql[at..]
            .trim_start_matches("create ")
            .trim_start_matches("or replace ")
            .trim_start_matches("unique ")
            .trim_start_matches("constraint ");
        let (kind, rest) = words.split_once(' ').unwrap();
        // Policies are named within their table.
        if kind == "policy" {
            continue;
        }
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let arguments = match kind {
            "function" => format!("({})", argument_types(&rest[name.len() + 1..])),
            _ => String::new(),
        };
        found.push(format!("{kind} {name}{arguments}"));
    }
    found
}

/// The types of the arguments that stand up to the closing parenthesis, without those that are answers.
fn argument_types(text: &str) -> String {
    let (mut depth, mut end) = (0, text.len());
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 0 => {
                end = at;
                break;
            }
            ')' => depth -= 1,
            _ => {}
        }
    }
    let types = text[..end]
        .split(',')
        .map(str::trim)
        .filter(|argument| !argument.is_empty() && !argument.starts_with("out "));
    let types = types.map(|argument| {
        let argument = argument.split(" default ").next().unwrap_or(argument);
        argument.split_once(' ').map_or(argument, |(_, kind)| kind)
    });
    types.collect::<Vec<_>>().join(", ")
}
