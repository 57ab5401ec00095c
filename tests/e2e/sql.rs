//! psql as a first-class way in.

use nightshift_store::JobState;
use nightshift_tests::{System, psql, specs};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_in_and_comes_out_by_sql_alone() {
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let _worker = system.worker("worker", 1);
    let url = system.database.url_as("lab_user");
    let spec = specs::prompts("by-sql", 2, "s3://lab/by-sql/");
    let id = psql(&url, &format!("select nightshift.submit($spec${spec}$spec$)"));
    let job: i64 = id.parse().unwrap();
    assert_eq!(system.wait(job).await.state, JobState::Finished);
    let counts =
        psql(&url, &format!("select state, n_ok, n_failed from nightshift.jobs where id = {job}"));
    assert_eq!(counts, "finished|2|0");
    let outputs =
        psql(&url, &format!("select uri from nightshift.outputs where job_id = {job} order by 1"));
    assert!(outputs.lines().all(|uri| uri.starts_with("s3://lab/by-sql/data/")), "{outputs}");
    assert_eq!(outputs.lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_spec_is_rejected_with_the_text_that_validate_prints() {
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let spec = specs::prompts("bad", 1, "s3://lab/bad/")
        .replace("generate: {", "sampler: {topk: 5}\ngenerate: {");
    let job = system.submit(&spec).await;
    let view = system.wait(job).await;
    assert_eq!(view.state, JobState::Rejected);
    let errors = view.errors.unwrap();
    assert!(
        errors.contains("unknown key \"topk\" in sampler")
            && errors.contains('^')
            && errors.contains("top_k"),
        "{errors}"
    );

    std::fs::write(system.folder.path().join("bad.yaml"), &spec).unwrap();
    let validated = system.command("lab_user", &["validate", "bad.yaml"]).output().unwrap();
    assert_eq!(validated.status.code(), Some(2));
    let printed = String::from_utf8(validated.stderr).unwrap()
        + &String::from_utf8(validated.stdout).unwrap();
    let after_place =
        |text: &str| text.split_once("unknown key").map(|(_, rest)| rest.trim_end().to_owned());
    assert!(
        printed.contains(after_place(&errors).unwrap().lines().next().unwrap()),
        "{printed}\n{errors}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_build_cannot_run_is_refused_in_the_words_of_validate() {
    let system = System::start().await;
    let _scheduler = system.scheduler();
    let spec = specs::prompts("later", 1, "s3://lab/later/")
        .replace("output: {", "output: {layout: webdataset, ");
    std::fs::write(system.folder.path().join("later.yaml"), &spec).unwrap();
    let validated = system.command("lab_user", &["validate", "later.yaml"]).output().unwrap();
    assert_eq!(validated.status.code(), Some(0), "{validated:?}");
    let said = String::from_utf8(validated.stderr).unwrap();
    let words = said
        .lines()
        .find(|line| line.contains("this build cannot run"))
        .unwrap_or_else(|| panic!("{said}"));
    let strict =
        system.command("lab_user", &["validate", "--runnable", "later.yaml"]).status().unwrap();
    assert_eq!(strict.code(), Some(2));

    let job = system.submit(&spec).await;
    let view = system.wait(job).await;
    assert_eq!(view.state, JobState::Rejected);
    let feature = words.split("this build cannot run").nth(1).unwrap();
    assert!(view.errors.as_deref().unwrap().contains(feature), "{words}\n{:?}", view.errors);
}
