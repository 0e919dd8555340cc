//! What watches over many hosts: `status --check`, `--watch` and `-o prometheus`.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use openmetrics_parser::prometheus::parse_prometheus;
use serde_json::{Value, json};

use crate::support::portmap::PROGRAM;
use crate::support::{Namespace, answer};

const RULES: &str = "ports: { 80: 3000 }";

#[track_caller]
fn check(host: &Namespace, code: i32, line: &str) -> Value {
    let text = host.portmap(["status", "--check"]).run().fails_with(code);
    assert_eq!(text.stdout, format!("{line}\n"), "{text}");
    let quiet = host.portmap(["status", "--check", "--quiet"]).run().fails_with(code);
    assert_eq!(quiet.stdout, "", "{quiet}");
    let document = host.portmap(["status", "--check", "-o", "json"]).run().fails_with(code).json();
    assert_eq!(document["healthy"], code == 0, "{document}");
    assert_eq!(document, host.status(), "the same without --check");
    document["faults"].as_array().unwrap().iter().map(|fault| fault["code"].clone()).collect()
}

#[test]
fn a_check_says_in_one_line_what_is_not_as_it_should_be() {
    let host = Namespace::new().that_boots();
    assert_eq!(check(&host, 0, "ok: nothing is mapped"), json!([]));

    host.apply(RULES);
    let faults = check(&host, 1, "not ok: the active mapping is not restored at boot");
    assert_eq!(faults, json!(["not-persisted"]));
    host.portmap(["persist"]).run().succeeds();
    assert_eq!(check(&host, 0, "ok: 1 mapping, generation 1, restored at boot"), json!([]));

    host.apply("ports: { 80: 4000 }");
    let faults = check(&host, 1, "not ok: boot restores another mapping: generation 1");
    assert_eq!(faults, json!(["boot-differs"]));
    host.apply(RULES);
    let same = "ok: 1 mapping, generation 3, restored at boot";
    assert_eq!(check(&host, 0, same), json!([]), "another number, the same mapping");

    host.nft("delete element inet portmap ports { tcp . 80 }");
    let drifted = host.portmap(["status", "--check"]).run().fails_with(1);
    assert_eq!(drifted.stdout.lines().count(), 1, "{drifted}");
    assert!(drifted.stdout.contains("changed table inet portmap: - 80/tcp"), "{drifted}");
    host.nft("delete table inet portmap");
    let gone = "not ok: table inet portmap is gone: generation 3 was active";
    assert_eq!(check(&host, 1, gone), json!(["not-applied"]));

    host.apply(RULES);
    let trial = "ports: { 80: 5000 }";
    host.portmap(["apply", "--confirm", "60s", "-"]).stdin(trial).run().succeeds();
    let on_trial = host.portmap(["status", "--check"]).run().fails_with(1);
    assert!(on_trial.stdout.contains("is on trial for"), "{on_trial}");
    host.portmap(["rollback"]).run().succeeds();

    let persisted = host.dir().join("state/boot");
    fs::write(&persisted, "nonsense").unwrap();
    let document = host.portmap(["status", "--check", "-o", "json"]).run().fails_with(1).json();
    assert_eq!(document["faults"][0]["code"], "history-unreadable", "{document}");
    host.portmap_unprivileged(["status", "--check"]).run().fails_with(1).says("CAP_NET_ADMIN");
}

#[test]
fn a_check_finds_that_nothing_restores_what_is_persisted() {
    let host = Namespace::new();
    host.apply(RULES);
    host.portmap(["persist"]).run().fails_with(3);
    let document = host.portmap(["status", "--check", "-o", "json"]).run().fails_with(1).json();
    assert_eq!(document["faults"][0]["code"], "boot-unit", "{document}");
    assert_eq!(document["faults"].as_array().unwrap().len(), 1, "{document}");
}

#[test]
fn prometheus_reads_the_metrics() {
    let host = Namespace::new().that_boots();
    let _server = host.serve("app", 3000);
    let rules = "ports: [{ port: 80, to: 3000, scope: local, comment: \"it's C:\\\\new 日本\" }, \
                 { port: 80, to: 4000, scope: external }, { port: 53/udp, to: 5353 }]";
    host.apply(rules);
    assert_eq!(host.tcp_ask("127.0.0.1:80"), answer("app"));
    let text = host.portmap(["status", "-o", "prometheus"]).run().succeeds().stdout;
    let metrics = parse_prometheus(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    for (name, family) in &metrics.families {
        assert!(name.starts_with("portmap_") && !family.help.is_empty(), "{name}: {text}");
    }
    for line in [
        "# TYPE portmap_connections_total counter",
        "portmap_connections_total{port=\"80\",protocol=\"tcp\",clients=\"local\"} 1",
        "portmap_connections_total{port=\"80\",protocol=\"tcp\",clients=\"external\"} 0",
        "portmap_connections_total{port=\"53\",protocol=\"udp\",clients=\"everyone\"} 0",
        "portmap_mapping_info{port=\"80\",protocol=\"tcp\",clients=\"local\",to=\"3000\",\
         comment=\"it's C:\\\\new 日本\"} 1",
        "portmap_active 1",
        "portmap_generation 1",
        "portmap_mappings 3",
        "portmap_healthy 0",
        "portmap_fault{code=\"not-persisted\"} 1",
        "portmap_fault{code=\"drifted\"} 0",
        "portmap_trial_left_seconds 0",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line}: {text}");
    }
    assert!(!text.contains("\nportmap_persisted_generation "), "absent: {text}");
    host.portmap(["persist"]).run().succeeds();
    let text = host.portmap(["status", "-o", "prometheus"]).run().succeeds().stdout;
    assert!(text.contains("\nportmap_persisted_generation 1\n"), "{text}");
    host.portmap(["clear"]).run().succeeds();
    let text = host.portmap(["status", "-o", "prometheus"]).run().succeeds().stdout;
    parse_prometheus(&text).unwrap_or_else(|e| panic!("{e}: {text}"));

    host.portmap(["history", "-o", "prometheus"])
        .run()
        .fails_with(64)
        .says("only `portmap status`");
    host.portmap(["status", "-wo", "prometheus"]).run().fails_with(64).says("timer");
}

#[test]
fn prometheus_reads_what_lives_with_a_command() {
    let host = Namespace::new();
    let run = ["run", "80:3000", "53/udp:5353", "--user", "root", "--"];
    let metrics = [PROGRAM, "status", "-o", "prometheus"].join(" ");
    let command = ["sh", "-c", &metrics];
    let text = host.portmap(run.iter().chain(&command)).run().succeeds().stdout;
    parse_prometheus(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let table = text.split("portmap_run_info{run=\"").nth(1).expect("a run");
    let table = table.split('"').next().unwrap();
    assert!(table.starts_with("portmap-run-"), "{text}");
    for line in [
        "portmap_mappings 0".to_owned(),
        "portmap_runs 1".to_owned(),
        format!("portmap_run_info{{run=\"{table}\",command=\"{}\"}} 1", command.join(" ")),
        format!(
            "portmap_run_mapping_info{{run=\"{table}\",port=\"80\",protocol=\"tcp\",to=\"3000\"}} 1"
        ),
        format!("portmap_run_connections_total{{run=\"{table}\",port=\"53\",protocol=\"udp\"}} 0"),
    ] {
        assert!(text.lines().any(|l| l == line), "no {line}: {text}");
    }
    let text = host.portmap(["status", "-o", "prometheus"]).run().succeeds().stdout;
    assert!(text.contains("\nportmap_runs 0\n"), "{text}");
}

#[test]
fn a_live_view_follows_and_fits_and_leaves_the_terminal_as_it_was() {
    let host = Namespace::new();
    host.apply(RULES);
    let modes = |name: &str| fs::read_to_string(host.dir().join(name)).expect(name);
    for end in ["q", "\x03", "TERM", "HUP"] {
        // The shell notes the modes of its terminal before and after.
        let run = match end {
            "TERM" | "HUP" => "\"$@\" <&1 & echo $! >pid; wait $!",
            _ => "\"$@\"",
        };
        let script =
            format!("trap : INT; rm -f after; stty -g >before; {run} || :; stty -g >after; exit");
        let watch = ["status", "--watch", "--interval", "100ms"];
        let mut terminal = host.portmap_mounted(&script, watch).at_terminal();
        terminal.shows("PER SECOND");
        terminal.shows("generation 1 is active");
        terminal.resize(46);
        terminal.shows("\n  CONNECTIONS  0\u{1b}[K");
        terminal.shows("\n  PER SECOND   0.0\u{1b}[K");
        terminal.press("x");
        match end {
            "TERM" | "HUP" => {
                let pid = modes("pid").trim().parse().expect("a process");
                let signal = if end == "HUP" { Signal::SIGHUP } else { Signal::SIGTERM };
                kill(Pid::from_raw(pid), signal).unwrap();
            }
            key => terminal.press(key),
        }
        let (_, screen) = terminal.ends();
        let left = screen.ends_with("\x1b[?25h\x1b[?1049l");
        assert!(left, "the cursor and the screen from before are back: {screen:?}");
        assert_eq!(modes("before"), modes("after"), "{end:?}");
    }
}

#[test]
fn a_live_view_is_stopped_and_continued_and_ends_with_its_terminal() {
    let host = Namespace::new();
    host.apply(RULES);
    let watch = ["status", "--watch", "--interval", "100ms"];
    // A shell with job control, which has the terminal while the view is stopped.
    let script = "stty -g >before; set -m; \"$@\" || echo \"left with $?\"; stty -g >stopped; \
                  read again; fg; stty -g >after; exit";
    let mut terminal = host.portmap_mounted(script, watch).at_terminal();
    terminal.shows("generation 1 is active");
    terminal.press("\x1a");
    // 128 and SIGSTOP or SIGTSTP, as the shell says it.
    terminal.shows("\x1b[?25h\x1b[?1049l");
    terminal.shows("left with 14");
    terminal.forget();
    terminal.press("\n");
    terminal.shows("\x1b[?1049h\x1b[?25l");
    terminal.shows("generation 1 is active");
    terminal.press("q");
    let (code, _) = terminal.ends();
    assert_eq!(code, Some(0));
    let modes = |name: &str| fs::read_to_string(host.dir().join(name)).expect(name);
    assert_eq!(modes("before"), modes("stopped"));
    assert_eq!(modes("before"), modes("after"));

    let mut terminal = host.portmap(watch).at_terminal();
    terminal.shows("generation 1 is active");
    terminal.hang_up();
    let (code, _) = terminal.ends();
    assert_eq!(code, Some(0), "nobody looks any more");
}

#[test]
fn where_there_is_no_terminal_a_view_is_plain_text_or_lines_of_json() {
    let host = Namespace::new();
    host.apply(RULES);
    let head = "\"$@\" | head -n 12; exit";
    let watch = ["status", "--watch", "--interval", "100ms"];
    let plain = host.portmap_mounted(head, watch).run().succeeds();
    assert!(plain.stdout.contains("80/tcp") && !plain.stdout.contains('\u{1b}'), "{plain}");
    assert!(plain.stdout.contains("0.0"), "a rate from the second look on: {plain}");
    let head = "\"$@\" | head -n 3; exit";
    let watch = ["status", "--watch", "--interval", "100ms", "-o", "json"];
    let lines = host.portmap_mounted(head, watch).run().succeeds().stdout;
    assert_eq!(lines.lines().count(), 3, "{lines}");
    for line in lines.lines() {
        let document: Value = serde_json::from_str(line).unwrap();
        assert_eq!(document["mappings"][0]["port"], 80);
    }
    host.portmap_unprivileged(["status", "--watch"]).run().fails_with(1).says("CAP_NET_ADMIN");
    host.portmap(["status", "--interval", "1s"]).run().fails_with(64);
    host.portmap(["status", "--watch", "--interval", "1ms"]).run().fails_with(64).says("100ms");
}
