//! `pg_terminate_backend` between any two calls: in the course of one small job after the other, one statement each is cut, first the
//! first, then the second, and so on, before it is carried out or after, so that its answer is lost. Each job ends as if nothing
//! had been.

use nightshift_store::JobState;
use nightshift_tests::{Cut, Process, Proxy, System, specs};

/// Items of each job: one shard, and its closing.
const ITEMS: usize = 2;

/// In that many jobs every statement comes that came in the course of one.
const JOBS: usize = 20;

/// A program whose connections are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Worker,
    Scheduler,
}

struct Cutting {
    system: System,
    proxy: Proxy,
    _processes: [Process; 2],
    jobs: usize,
}

impl Cutting {
    async fn start(victim: Victim) -> Self {
        let system = System::start().await;
        let proxy = Proxy::start(&system.database).await;
        let start = |name: &str, who: Victim, login: &str, arguments: &[&str]| {
            let mut command = system.command(login, arguments);
            // A lease whose claim was never answered has to run out.
            command.env("NIGHTSHIFT_WORKER_LEASE_MS", "1500");
            if who == victim {
                command
                    .env("NIGHTSHIFT_DATABASE_URL", proxy.through(&system.database.url_as(login)));
            }
            Process::start(name, system.folder.path(), &mut command)
        };
        let processes = [
            start("scheduler", Victim::Scheduler, "lab_scheduler", &["scheduler"]),
            start(
                "worker",
                Victim::Worker,
                "lab_worker",
                &["worker", "--name", "worker", "--slots", "2"],
            ),
        ];
        Self { system, proxy, _processes: processes, jobs: 0 }
    }

    /// Runs a job to its end, whatever is cut.
    async fn run(&mut self, what: &str) {
        self.jobs += 1;
        let name = format!("cut-{}", self.jobs);
        let job =
            self.system.submit(&specs::prompts(&name, ITEMS, &format!("s3://lab/{name}/"))).await;
        let view = self.system.wait(job).await;
        assert_eq!((view.state, view.n_ok), (JobState::Finished, ITEMS as i64), "{what}: {view:?}");
        let stored = self.system.list(&format!("{name}/data/")).await.len();
        assert_eq!(stored, ITEMS, "{what}: objects of the job");
        assert!(
            self.system.read(&format!("{name}/_nightshift/_SUCCESS")).await.is_some(),
            "{what}"
        );
    }

    /// Runs jobs until this statement has come and was cut. A job has no fixed number of them, as both programs also act by their
    /// clocks: the later ones may come in the course of the next job.
    async fn cut(&mut self, statement: usize, how: Cut) {
        let before = self.proxy.cuts();
        self.proxy.cut(statement, how);
        for _ in 0..JOBS {
            self.run(&format!("statement {statement} cut {how:?}")).await;
            if self.proxy.cuts() > before {
                return;
            }
        }
        panic!(
            "statement {statement} did not come in {JOBS} jobs, only {} did",
            self.proxy.counted()
        );
    }
}

/// Cuts each statement that one job takes, or a dozen of them in the short form.
async fn cut_everywhere(victim: Victim, least: usize) {
    let full = std::env::var_os("NIGHTSHIFT_TEST_FULL").is_some();
    let mut cutting = Cutting::start(victim).await;
    cutting.run("warming up").await;
    cutting.proxy.count();
    cutting.run("counting").await;
    let statements = cutting.proxy.counted();
    assert!(statements >= least, "only {statements} statements went through the proxy");
    // A scheduler goes on and on: what it does in the course of a job is over after that many.
    let statements = statements.min(60);
    let step = if full { 1 } else { statements.div_ceil(12) };
    for statement in (0..statements).step_by(step) {
        for how in [Cut::Before, Cut::After] {
            // The short form takes the two in turns.
            if full || (statement / step % 2 == 0) == (how == Cut::Before) {
                cutting.cut(statement, how).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_bears_the_end_of_its_connection_at_any_statement() {
    cut_everywhere(Victim::Worker, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_bears_the_end_of_its_connection_at_any_statement() {
    cut_everywhere(Victim::Scheduler, 5).await;
}
