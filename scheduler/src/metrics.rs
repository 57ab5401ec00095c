//! What a scheduler tells Prometheus: `GET /metrics`, text format 0.0.4. Figures of the whole system are asked for at each scrape,
//! those of this process are kept as they come.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nightshift_store::{Figure, Store};
use tokio::net::TcpListener;

/// Upper bounds of the buckets of tick durations, in seconds.
const BUCKETS: [f64; 9] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];
/// A client that is silent for this long is disconnected.
const PATIENCE: Duration = Duration::from_secs(10);

/// Help of the figures that the store gives: name, type, help, label.
const FIGURES: [(&str, &str, &str, &str); 7] = [
    ("jobs", "gauge", "Jobs that have not ended, by state.", "state"),
    (
        "active_items",
        "gauge",
        "Items of active jobs, by status; waiting ones are not final yet.",
        "status",
    ),
    (
        "items_finished_total",
        "counter",
        "Items that became final in this database; its rate is that of the whole system.",
        "",
    ),
    ("leases", "gauge", "Shards that are leased.", ""),
    ("workers", "gauge", "Workers heard from within the last minute.", "state"),
    (
        "oldest_waiting_seconds",
        "gauge",
        "Age of the oldest job that waits to be planned (submitted) or begun (ready).",
        "state",
    ),
    ("webhooks_waiting", "gauge", "Notifications that are not delivered yet.", ""),
];

/// Counters of this process. All begin at 0, so that a graph shows 0 and no gap.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Counters>);

#[derive(Debug, Default, Clone)]
struct Counters {
    leads: bool,
    /// Ticks by bucket, the last one for longer ones.
    ticks: [u64; BUCKETS.len() + 1],
    tick_seconds: f64,
    failed_ticks: u64,
    expired: u64,
    delivered: u64,
    undelivered: u64,
}

impl Metrics {
    pub(crate) fn tick(&self, took: Duration, worked: bool) {
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound);
        self.change(|c| {
            c.ticks[bucket.unwrap_or(BUCKETS.len())] += 1;
            c.tick_seconds += seconds;
            c.failed_ticks += u64::from(!worked);
        });
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.change(|c| c.leads = leads);
    }

    pub(crate) fn expired(&self, n: i64) {
        self.change(|c| c.expired += u64::try_from(n).unwrap_or(0));
    }

    pub(crate) fn delivery(&self, worked: bool) {
        self.change(|c| match worked {
            true => c.delivered += 1,
            false => c.undelivered += 1,
        });
    }

    fn change(&self, change: impl FnOnce(&mut Counters)) {
        if let Ok(mut counters) = self.0.lock() {
            change(&mut counters);
        }
    }

    /// The page. `figures` is `None` when the database does not answer.
    fn page(&self, figures: Option<&[Figure]>) -> String {
        let counters = self.0.lock().map(|c| c.clone()).unwrap_or_default();
        let mut page = Page(String::new());
        page.head("up", "gauge", "Whether the database answers.");
        page.line("up", "", "", f64::from(u8::from(figures.is_some())));
        for (name, kind, help, label) in FIGURES {
            let of_name: Vec<&Figure> =
                figures.unwrap_or_default().iter().filter(|figure| figure.name == name).collect();
            if !of_name.is_empty() {
                page.head(name, kind, help);
            }
            for figure in of_name {
                page.line(name, label, &figure.label, figure.value);
            }
        }
        page.head("scheduler_leads", "gauge", "Whether this scheduler leads.");
        page.line("scheduler_leads", "", "", f64::from(u8::from(counters.leads)));
        page.head("tick_duration_seconds", "histogram", "Duration of one tick.");
        let mut so_far = 0;
        for (bound, n) in
            BUCKETS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]).zip(counters.ticks)
        {
            so_far += n;
            page.line("tick_duration_seconds_bucket", "le", &bound, count(so_far));
        }
        page.line("tick_duration_seconds_sum", "", "", counters.tick_seconds);
        page.line("tick_duration_seconds_count", "", "", count(so_far));
        for (name, help, n) in [
            ("failed_ticks_total", "Ticks that failed.", counters.failed_ticks),
            ("expired_leases_total", "Expired leases that this scheduler found.", counters.expired),
            (
                "webhooks_delivered_total",
                "Notifications that a receiver accepted from this scheduler.",
                counters.delivered,
            ),
            (
                "webhook_failures_total",
                "Deliveries by this scheduler that failed.",
                counters.undelivered,
            ),
        ] {
            page.head(name, "counter", help);
            page.line(name, "", "", count(n));
        }
        page.0
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus knows doubles only; they are exact up to 2^53"
)]
fn count(n: u64) -> f64 {
    n as f64
}

/// Lines of the text format.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible =
            write!(self.0, "# HELP nightshift_{name} {help}\n# TYPE nightshift_{name} {kind}\n");
    }

    /// Labels are fixed words, so nothing needs escaping.
    fn line(&mut self, name: &str, label: &str, label_value: &str, value: f64) {
        let labels = match label {
            "" => String::new(),
            label => format!("{{{label}=\"{label_value}\"}}"),
        };
        let _infallible = writeln!(self.0, "nightshift_{name}{labels} {value}");
    }
}

/// Answers until it is dropped.
pub(crate) async fn serve(listener: TcpListener, store: Store, metrics: Arc<Metrics>) {
    let mut clients = tokio::task::JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a client of the metrics could not connect");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (store, metrics) = (store.clone(), Arc::clone(&metrics));
        clients.spawn(async move {
            let service = service_fn(|request| answer(&store, &metrics, request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a client of the metrics went away");
            }
        });
        while clients.try_join_next().is_some() {}
    }
}

async fn answer(
    store: &Store,
    metrics: &Metrics,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET || request.uri().path() != "/metrics" {
        let mut response = Response::new(Full::new(Bytes::from_static(b"only GET /metrics\n")));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    }
    let figures = match store.figures().await {
        Ok(figures) => Some(figures),
        Err(error) => {
            tracing::debug!(%error, "no figures of the database");
            None
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(metrics.page(figures.as_deref()))));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; version=0.0.4"),
    );
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_counts_in_cumulative_buckets_and_says_when_the_database_is_away() {
        let metrics = Metrics::default();
        metrics.tick(Duration::from_millis(3), true);
        metrics.tick(Duration::from_secs(60), false);
        metrics.expired(2);
        let page = metrics.page(None);
        for line in [
            "nightshift_up 0",
            "nightshift_tick_duration_seconds_bucket{le=\"0.001\"} 0",
            "nightshift_tick_duration_seconds_bucket{le=\"0.005\"} 1",
            "nightshift_tick_duration_seconds_bucket{le=\"5\"} 1",
            "nightshift_tick_duration_seconds_bucket{le=\"+Inf\"} 2",
            "nightshift_tick_duration_seconds_count 2",
            "nightshift_failed_ticks_total 1",
            "nightshift_expired_leases_total 2",
        ] {
            assert!(page.lines().any(|l| l == line), "{line}\n{page}");
        }
        assert!(!page.contains("nightshift_jobs"));
    }
}
