//! Rules of migrations/README.md that the catalogue can answer.

use nightshift_store::{
    AttemptOutcome, ItemStatus, JobState, LEGAL_JOB_MOVES, LEGAL_SHARD_MOVES, SCHEMA, ShardKind,
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
async fn the_schema_number_is_the_last_migration() {
    let lab = Lab::new().await;
    assert_eq!(
        lab.text("select max(version)::text from _sqlx_migrations").await,
        SCHEMA.to_string()
    );
}
