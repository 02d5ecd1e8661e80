//! Metrics as Prometheus scrapes them.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::process;

/// The percentiles that Kafka's histograms show; they are rendered as summaries.
pub const QUANTILES: [f64; 6] = [0.5, 0.75, 0.95, 0.98, 0.99, 0.999];

/// Why the recorder cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The exporter refuses its settings.
    #[error("cannot set up metrics: {0}")]
    Build(#[from] metrics_exporter_prometheus::BuildError),
    /// Something else records already.
    #[error("metrics were set up before")]
    Twice,
}

/// Adds samples to a scrape: what is read then instead of counted all the time, so that no series outlives its subject.
pub type Collector = dyn Fn(&mut Exposition) + Send + Sync;

/// All metrics of this process.
#[derive(Clone)]
pub struct Metrics {
    recorded: PrometheusHandle,
    collectors: Arc<Mutex<Vec<Box<Collector>>>>,
}

impl Metrics {
    /// Records what all crates count with the `metrics` facade from now on.
    pub fn install() -> Result<Metrics, MetricsError> {
        let recorder = PrometheusBuilder::new().set_quantiles(&QUANTILES)?.build_recorder();
        let recorded = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Twice)?;
        Ok(Metrics::new(recorded))
    }

    fn new(recorded: PrometheusHandle) -> Metrics {
        Metrics {
            recorded,
            collectors: Arc::new(Mutex::new(vec![Box::new(process::collect)])),
        }
    }

    /// Asks `collector` for samples at every scrape, on a thread of its own.
    pub fn add_collector(&self, collector: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        let mut collectors = self.collectors.lock().unwrap_or_else(PoisonError::into_inner);
        collectors.push(Box::new(collector));
    }

    /// The text of a scrape. May take a while with many partitions.
    pub fn render(&self) -> String {
        let mut exposition = Exposition(self.recorded.render());
        for collector in self.collectors.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            collector(&mut exposition);
        }
        // Kafka's 50th percentile has two digits in the dashboards made for it.
        exposition.0.replace("quantile=\"0.5\"", "quantile=\"0.50\"")
    }

    /// Folds what histograms have gathered into their quantiles; to be called every few seconds, scraped or not.
    pub fn maintain(&self) {
        self.recorded.run_upkeep();
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Quantiles, sum and count of many values.
    Summary,
}

/// The text of a scrape, in Prometheus' exposition format 0.0.4.
pub struct Exposition(String);

impl Exposition {
    /// Starts a metric; all of its samples follow before the next one starts.
    pub fn metric<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Samples<'a> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
        };
        // Writing to a string does not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Samples {
            text: &mut self.0,
            name,
        }
    }
}

/// The samples of one metric.
pub struct Samples<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Samples<'_> {
    /// Adds a sample. Label values may hold any text.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.write("", labels, value)
    }

    /// Adds a summary with the values of all [`QUANTILES`].
    pub fn summary(
        &mut self,
        labels: &[(&str, &str)],
        quantiles: [f64; QUANTILES.len()],
        sum: f64,
        count: u64,
    ) -> &mut Self {
        for (quantile, value) in QUANTILES.into_iter().zip(quantiles) {
            self.write("", &[labels, &[("quantile", &quantile.to_string())]].concat(), value);
        }
        self.write("_sum", labels, sum).write("_count", labels, count as f64)
    }

    fn write(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.text.extend([self.name, suffix]);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"");
            for c in text.chars() {
                match c {
                    '\\' | '"' => self.text.extend(['\\', c]),
                    '\n' => self.text.push_str("\\n"),
                    _ => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
        self
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Metrics that are not this process's.
    pub(crate) fn local(record: impl FnOnce()) -> Metrics {
        let recorder = PrometheusBuilder::new()
            .set_quantiles(&QUANTILES)
            .unwrap()
            .build_recorder();
        let recorded = recorder.handle();
        metrics::with_local_recorder(&recorder, record);
        Metrics::new(recorded)
    }

    #[test]
    fn counts_and_quantiles_are_rendered_as_kafkas_dashboards_expect_them() {
        let metrics = local(|| {
            metrics::counter!("kafka_server_brokertopicmetrics_messagesin_total", "topic" => "a").increment(3);
            let times = metrics::histogram!("kafka_network_requestmetrics_totaltimems", "request" => "Produce");
            (1..=1000).for_each(|time| times.record(f64::from(time)));
        });
        metrics.maintain();
        let text = metrics.render();
        assert!(
            text.contains("kafka_server_brokertopicmetrics_messagesin_total{topic=\"a\"} 3\n"),
            "{text}"
        );
        for quantile in ["0.50", "0.75", "0.95", "0.98", "0.99", "0.999"] {
            let line =
                format!("kafka_network_requestmetrics_totaltimems{{request=\"Produce\",quantile=\"{quantile}\"}} ");
            assert!(text.contains(&line), "{quantile}: {text}");
        }
        assert!(
            text.contains("kafka_network_requestmetrics_totaltimems_count{request=\"Produce\"} 1000\n"),
            "{text}"
        );
    }

    #[test]
    fn collectors_add_samples_to_each_scrape() {
        let metrics = local(|| ());
        metrics.add_collector(|exposition| {
            exposition
                .metric("kafka_log_log_size", Kind::Gauge, "The size of a log in bytes.")
                .sample(&[("topic", "a\"b\\c\nd"), ("partition", "0")], 12.0)
                .sample(&[], 0.5);
        });
        let text = metrics.render();
        let expected = "# HELP kafka_log_log_size The size of a log in bytes.\n# TYPE kafka_log_log_size gauge\n\
            kafka_log_log_size{topic=\"a\\\"b\\\\c\\nd\",partition=\"0\"} 12\nkafka_log_log_size 0.5\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn summaries_look_like_those_that_are_recorded() {
        let metrics = local(|| ());
        metrics.add_collector(|exposition| {
            exposition.metric("a_time", Kind::Summary, "A time.").summary(
                &[("a", "b")],
                [1.5, 2.0, 3.0, 4.0, 5.0, 6.0],
                20.25,
                7,
            );
        });
        let text = metrics.render();
        let expected =
            "# TYPE a_time summary\na_time{a=\"b\",quantile=\"0.50\"} 1.5\na_time{a=\"b\",quantile=\"0.75\"} 2\n";
        assert!(text.contains(expected), "{text}");
        assert!(
            text.ends_with("quantile=\"0.999\"} 6\na_time_sum{a=\"b\"} 20.25\na_time_count{a=\"b\"} 7\n"),
            "{text}"
        );
    }
}
