//! Twenty at once: the history is one line, and the kernel holds its end.

use std::time::{Duration, Instant};

use crate::support::Namespace;

/// For how long; more by `PORTMAP_TEST_SECONDS`.
fn time() -> Duration {
    let seconds = std::env::var("PORTMAP_TEST_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

#[test]
fn twenty_at_once_make_one_line() {
    let host = Namespace::new().that_boots();
    for i in 0..20 {
        host.file(
            &format!("{i}.yaml"),
            &format!("ports: {{ 80: {}, {}: 3000 }}", 3000 + i, 81 + i),
        );
    }
    let end = Instant::now() + time();
    std::thread::scope(|scope| {
        for i in 0..20 {
            let host = &host;
            scope.spawn(move || {
                let file = format!("{i}.yaml");
                for round in i.. {
                    if Instant::now() > end {
                        return;
                    }
                    let command: &[&str] = match round % 5 {
                        0 => &["rollback"],
                        1 => &["persist"],
                        2 => &["status", "-o", "json"],
                        _ => &["apply", &file],
                    };
                    let command = command.iter().copied().chain(["--wait", "60s"]);
                    let outcome = host.portmap(command).run();
                    let nowhere = outcome.stderr.contains("there is no ");
                    assert!(outcome.code == Some(0) || nowhere, "{outcome}");
                    assert!(!outcome.stderr.contains("never reached"), "{outcome}");
                }
            });
        }
    });

    let history = host.history();
    let generations = history.as_array().unwrap();
    let number = |i: usize| generations[i]["number"].as_u64().unwrap();
    let last = generations.len() - 1;
    assert!(last >= 20, "only {last} changes in that time");
    // Those before may be there for the sake of what boot restores.
    for i in (last.saturating_sub(45)..=last).skip(1) {
        assert_eq!(number(i), number(i - 1) + 1, "a gap: {history}");
        assert_eq!(generations[i]["parent"], generations[i - 1]["number"], "{history}");
    }
    assert_eq!(generations[last]["state"], "active", "{history}");
    let past = |state: &str| state.contains("past") || state.contains("active");
    assert!(host.states().iter().all(|state| past(state)), "{:?}", host.states());
    let status = host.status();
    assert!(status["drift"].is_null(), "{status}");
    let shown = host.portmap(["show".to_owned(), number(last).to_string()]).run().succeeds();
    assert_eq!(host.portmap(["show"]).run().succeeds().stdout, shown.stdout);
}
