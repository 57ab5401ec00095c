use super::*;

fn around(dir: &tempfile::TempDir, env: &[(&str, &str)]) -> Surroundings {
    Surroundings {
        env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        files: ["here.toml", "user.toml", "system.toml"]
            .iter()
            .map(|name| dir.path().join(name))
            .collect(),
        explicit: None,
    }
}

fn write(dir: &tempfile::TempDir, name: &str, text: &str) {
    std::fs::write(dir.path().join(name), text).unwrap();
}

#[test]
fn a_flag_beats_the_environment_beats_each_file_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let get = |flags: &[(&'static str, &str, String)], env: &[(&str, &str)]| {
        let config = Config::load(flags, &around(&dir, env)).unwrap();
        let (value, origin) = config.values["worker.slots"].clone();
        (value, origin.to_string().replace(&format!("{}/", dir.path().display()), ""))
    };
    assert_eq!(get(&[], &[]), ("2".into(), "default".into()));
    write(&dir, "system.toml", "[worker]\nslots = 3\n");
    assert_eq!(get(&[], &[]), ("3".into(), "file system.toml".into()));
    write(&dir, "user.toml", "worker.slots = 4\n");
    assert_eq!(get(&[], &[]), ("4".into(), "file user.toml".into()));
    write(&dir, "here.toml", "worker = {slots = 5}\n");
    assert_eq!(get(&[], &[]), ("5".into(), "file here.toml".into()));
    let env = [("NIGHTSHIFT_WORKER_SLOTS", "6")];
    assert_eq!(get(&[], &env), ("6".into(), "environment NIGHTSHIFT_WORKER_SLOTS".into()));
    let flags = [("worker.slots", "--slots", "7".to_owned())];
    assert_eq!(get(&flags, &env), ("7".into(), "flag --slots".into()));
}

#[test]
fn an_explicit_file_must_exist_and_stands_before_the_others() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "here.toml", "worker.slots = 5\n");
    write(&dir, "other.toml", "worker.slots = 9\n");
    let mut around = around(&dir, &[]);
    around.explicit = Some(dir.path().join("other.toml"));
    assert_eq!(Config::load(&[], &around).unwrap().number("worker.slots"), 9);
    around.explicit = Some(dir.path().join("missing.toml"));
    assert_eq!(Config::load(&[], &around).unwrap_err().exit, Exit::Usage);
}

#[test]
fn the_specific_variable_beats_the_standard_one_and_an_empty_one_counts_as_unset() {
    let dir = tempfile::tempdir().unwrap();
    let both = [("DATABASE_URL", "postgres://a/b"), ("NIGHTSHIFT_DATABASE_URL", "postgres://c/d")];
    let config = Config::load(&[], &around(&dir, &both)).unwrap();
    assert_eq!(config.get("database.url"), Some("postgres://c/d"));
    let empty = [("DATABASE_URL", "postgres://a/b"), ("NIGHTSHIFT_DATABASE_URL", "")];
    let config = Config::load(&[], &around(&dir, &empty)).unwrap();
    assert_eq!(config.get("database.url"), Some("postgres://a/b"));
}

#[test]
fn unknown_keys_and_illegal_values_are_errors_that_name_their_origin() {
    let dir = tempfile::tempdir().unwrap();
    let message = |text: &str| {
        write(&dir, "here.toml", text);
        let failure = Config::load(&[], &around(&dir, &[])).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        failure.message.replace(&format!("{}/", dir.path().display()), "")
    };
    assert_eq!(message("[worker]\nslotz = 3\n"), "here.toml: unknown key \"worker.slotz\"");
    assert_eq!(
        message("worker.slots = 0\n"),
        "worker.slots (file here.toml): expected a whole number of at least 1, got \"0\""
    );
    assert_eq!(
        message("database.pooler = \"pgbouncer\"\n"),
        "database.pooler (file here.toml): expected one of session, transaction, got \"pgbouncer\""
    );
    assert_eq!(
        message("worker.slots = [1]\n"),
        "here.toml: worker.slots: expected text or a number, got array"
    );
    let broken = message("a = 1\ndatabase.url = \"postgres://u:topsecret@h/d\n");
    assert!(broken.starts_with("here.toml: line 2: "), "{broken}");
    assert!(!broken.contains("topsecret"), "{broken}");
}

#[test]
fn a_password_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let env = [("DATABASE_URL", "postgres://u:topsecret@host:5432/db?password=topsecret")];
    let config = Config::load(&[], &around(&dir, &env)).unwrap();
    let shown: Vec<String> = config.shown().into_iter().map(|(_, value, _)| value).collect();
    assert_eq!(shown[0], "postgres://u:...@host:5432/db");
    assert_eq!(redact_url("host=h password=topsecret"), "(hidden)");
    assert_eq!(redact_url("postgres://host/db"), "postgres://host/db");
    assert_eq!(redact_url("postgres://ann:to?secret@host/db"), "(hidden)");
    assert_eq!(redact_url("postgres://ann:to/se#cret@host/db?a=b"), "postgres://ann:...@host/db");
    assert_eq!(redact_url("postgres://host/db?user=ann&password=top@secret"), "(hidden)");
}
