//! Notifications are hints: without them polling carries everything on.

use std::time::Duration;

use nightshift_store::JobState;
use nightshift_tests::{Process, Proxy, System, specs};

#[tokio::test(flavor = "multi_thread")]
async fn jobs_start_and_end_when_nobody_can_listen_any_more() {
    let system = System::start().await;
    let proxy = Proxy::start(&system.database).await;
    let start = |name: &str, login: &str, arguments: &[&str]| {
        let mut command = system.command(login, arguments);
        command.env("NIGHTSHIFT_DATABASE_URL", proxy.through(&system.database.url_as(login)));
        Process::start(name, system.folder.path(), &mut command)
    };
    let mut scheduler = start("scheduler", "lab_scheduler", &["scheduler"]);
    let mut worker = start("worker", "lab_worker", &["worker", "--name", "worker", "--slots", "2"]);
    nightshift_tests::until(Duration::from_secs(30), "both of them listen", || {
        proxy.listening() == 2
    });
    proxy.deafen().await;
    for name in ["deaf-1", "deaf-2"] {
        let job = system.submit(&specs::prompts(name, 2, &format!("s3://lab/{name}/"))).await;
        assert_eq!(system.wait(job).await.state, JobState::Finished);
    }
    assert_eq!(proxy.listening(), 0, "nobody listened meanwhile");
    let listening = system.database.sql("select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen%'");
    assert_eq!(listening, "0");
    assert!(scheduler.runs() && worker.runs(), "no process gave up");
}
