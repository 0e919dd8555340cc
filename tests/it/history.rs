//! What a host remembers of its changes, and the ways back.

use serde_json::{Value, json};

use crate::support::{Namespace, NoAnswer, World, answer};

/// Something of all that a mapping can say: to be written down, shown, and read again.
const SOME_OF_EVERYTHING: &str = "\
ports:
  - { port: 80, to: 3000, comment: \"the shop: 'a' # b\" }
  - { port: 53/udp, to: 5353, families: [ipv4] }
  - { port: 443, to: 9443, interfaces: [\"wg*\", eth0], sources: [203.0.113.0/24, \"2001:db8::/32\"] }
  - { port: 443, to: 9444, addresses: [192.0.2.10] }
  - { port: 443, to: 8443 }
  - { port: 990, to: 2990, scope: local }
  - { port: 6000-6003, to: 16000-16003, scope: external }
";

fn to(port: u16) -> String {
    format!("ports: {{ 80: {port} }}")
}

#[test]
fn every_change_makes_a_generation_and_nothing_else_does() {
    let host = Namespace::new();
    assert_eq!(host.history(), json!([]));

    host.apply(&to(3000));
    host.apply(&to(3000));
    host.nft("add table inet foreign");
    host.apply(&to(3000));
    host.apply(&to(4000));
    host.portmap(["clear"]).run().succeeds();
    host.portmap(["clear"]).run().succeeds();

    assert_eq!(host.states(), ["1 past", "2 past", "3 active"]);
    let commands: Vec<Value> =
        host.history().as_array().unwrap().iter().map(|g| g["command"].clone()).collect();
    assert_eq!(commands, ["apply", "apply", "clear"]);
}

#[test]
fn a_generation_says_who_made_it_when_why_and_of_what() {
    let host = Namespace::new();
    let rules = host.file("web.yaml", &to(3000));
    let mut apply = host.portmap(["apply", "--message", "web\nmoves \u{1b}[31m", "web.yaml"]);
    apply.env("SUDO_UID", "4321").env("SUDO_USER", "ada");
    apply.run().succeeds();
    let mut apply = host.portmap(["apply", "-"]).stdin(&to(4000));
    apply.env("SUDO_UID", "4321");
    apply.run().succeeds();

    let history = host.history();
    let first = &history[0];
    assert_eq!(first["who"], "ada");
    assert_eq!(first["message"], "web\nmoves \u{1b}[31m");
    assert_eq!(first["parent"], 0);
    assert_eq!(first["sources"], json!([rules]), "an absolute path");
    assert_eq!(first["uid"], 4321);
    assert_eq!(first["hash"].as_str().map(str::len), Some(32), "{first}");
    assert_eq!(history[1]["sources"], json!(["standard input"]));
    assert!(first["time"].as_str().unwrap().ends_with('Z'), "{first}");
    assert_eq!(history[1]["who"], "uid 4321");
    assert_eq!(history[1]["parent"], 1);

    let listing = host.portmap(["history"]).run().succeeds().stdout;
    let time = first["time"].as_str().unwrap().replace('T', " ");
    assert!(listing.contains(&format!("{time}  ada (4321)  apply")), "{listing}");
    assert_eq!(listing.lines().count(), 3, "a message does not break its line: {listing}");
    assert!(!listing.contains('\u{1b}'), "nor command the terminal: {listing:?}");
}

#[test]
fn equal_mappings_have_equal_hashes() {
    let host = Namespace::new();
    host.apply(&to(3000));
    host.apply(&to(4000));
    host.portmap(["apply", "80:3000", "443:8443"]).run().succeeds();
    host.portmap(["apply", "80:3000"]).run().succeeds();
    let history = host.history();
    assert_eq!(history[0]["hash"], history[3]["hash"]);
    assert_ne!(history[0]["hash"], history[1]["hash"]);
    assert_eq!(history[2]["sources"], json!(["command line"]));
}

#[test]
fn generations_are_compared() {
    let host = Namespace::new();
    host.apply("ports: { 80: 3000, 443: 8443 }");
    host.apply("ports: { 80: 4000, 443: 8443 }");
    host.apply("ports: { 80: 4000, 22: 2222 }");
    let diff =
        |n: &[&str]| host.portmap(["history", "--diff"].iter().chain(n)).run().succeeds().stdout;
    let said = "+ 22/tcp -> 2222\n- 443/tcp -> 8443\nfrom generation 2 to generation 3: 1 added, \
                1 removed\n";
    assert_eq!(diff(&["3"]), said, "what it has changed");
    assert!(diff(&["1", "3"]).starts_with("+ 22/tcp -> 2222\n~ 80/tcp: 3000 -> 4000\n"));
    assert!(diff(&["3", "3"]).contains("no mapping differs"), "{}", diff(&["3", "3"]));
    assert!(diff(&["1"]).contains("from generation 0, the empty one, to generation 1: "));
    let document =
        host.portmap(["history", "--diff", "3", "2", "-o", "json"]).run().succeeds().json();
    assert_eq!((&document["from"], &document["to"]), (&json!(3), &json!(2)));
    assert_eq!(document["changes"][0]["action"], "remove", "{document}");
    host.portmap(["history", "--diff", "9"]).run().fails_with(1).says("no generation 9");
    host.portmap(["history", "--diff", "0"]).run().fails_with(1).says("--diff 0 N");
    host.portmap(["history", "--diff", "1", "2", "3"]).run().fails_with(64);
    host.portmap(["history", "--diff"]).run().fails_with(64);
    host.portmap(["history", "3"]).run().fails_with(64).says("--diff <N>");
    let help = host.portmap(["history", "--help"]).run().succeeds().stdout;
    assert!(help.contains("Usage: portmap history [OPTIONS] [M]\n"), "{help}");
    assert!(help.contains("  --diff <N> "), "{help}");
}

#[test]
fn what_show_prints_apply_accepts() {
    let host = Namespace::new();
    host.apply(SOME_OF_EVERYTHING);
    let table = host.table();
    let shown = host.portmap(["show", "1"]).run().succeeds().stdout;
    let active = host.portmap(["show"]).run().succeeds().stdout;
    assert_eq!(active, shown);
    let document = host.portmap(["show", "-o", "json", "1"]).run().succeeds().json();
    assert_eq!(document, json!({ "version": 1, "generation": 1, "rules": shown }));
    host.portmap(["clear"]).run().succeeds();

    host.portmap(["apply", "-"]).stdin(&shown).run().succeeds();

    assert_eq!(host.table(), table);
    assert_eq!(host.portmap(["show", "3"]).run().succeeds().stdout, shown);
    assert_eq!(host.status()["drift"], Value::Null);
    host.portmap(["show", "99"]).run().fails_with(1).says("no generation 99").says("history");
}

#[test]
fn rolling_back_twice_goes_two_back_and_then_there_is_nowhere_to_go() {
    let world = World::new();
    let host = &world.host;
    let _servers: Vec<_> =
        [("a", 3000), ("b", 4000), ("c", 5000)].map(|(name, port)| host.serve(name, port)).into();
    let served = || world.client.tcp_ask("192.0.2.1:80");
    for port in [3000, 4000, 5000] {
        host.apply(&to(port));
    }
    assert_eq!(served(), answer("c"));

    host.portmap(["rollback", "--message", "c is broken"]).run().succeeds();
    assert_eq!(served(), answer("b"));
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(served(), answer("a"));
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(served(), Err(NoAnswer::Refused));
    assert_eq!(host.ruleset(), "");
    let nowhere = host.portmap(["rollback"]).run().fails_with(1).says("no generation to go back");
    assert_eq!(nowhere.stdout, "");

    host.portmap(["rollback", "--to", "3"]).run().succeeds();
    assert_eq!(served(), answer("c"));
    let again = host.portmap(["rollback", "--to", "3"]).run().succeeds();
    assert!(again.stdout.contains("nothing to do"), "{again}");
    host.portmap(["rollback", "--to", "0"]).run().succeeds();
    assert_eq!(host.ruleset(), "");
    host.portmap(["rollback", "--to", "99"]).run().fails_with(1).says("no generation 99");
    assert_eq!(host.history()[3]["message"], "c is broken");
    assert_eq!(host.history()[3]["restores"], 2);
}

#[test]
fn a_rollback_is_shown_first_if_asked_and_tells_by_its_exit_code() {
    let host = Namespace::new();
    host.apply(&to(3000));
    host.apply("ports: { 80: 4000, 443: 8443 }");
    let (table, states) = (host.table(), host.states());

    let shown = host.portmap(["rollback", "--dry-run", "--detailed-exitcode"]).run().fails_with(2);
    assert!(shown.stdout.contains("- 443/tcp"), "{shown}");
    assert!(shown.stdout.contains("generation 1"), "{shown}");
    let document = host.portmap(["rollback", "--dry-run", "-o", "json"]).run().succeeds().json();
    assert_eq!(document["changed"], true);
    assert_eq!((host.table(), host.states()), (table, states));

    host.portmap(["rollback", "--detailed-exitcode"]).run().fails_with(2);
    let again = ["rollback", "--to", "3", "--detailed-exitcode", "-o", "json"];
    let document = host.portmap(again).run().succeeds().json();
    assert_eq!((&document["changed"], &document["generation"]), (&json!(false), &json!(3)));
}

#[test]
fn a_rollback_keeps_the_counters_of_what_stays_and_takes_udp_clients_along() {
    let world = World::new();
    let host = &world.host;
    let _servers = [host.serve("app", 3000), host.serve("old", 5353), host.serve("new", 5454)];
    host.apply("ports: { 80: 3000, 53/udp: 5353 }");
    host.apply("ports: { 80: 3000, 53/udp: 5454 }");
    let client = world.client.udp_client(40000, "192.0.2.1:53");
    assert_eq!(client.ask(), answer("new"));
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), answer("app"));

    host.portmap(["rollback"]).run().succeeds();

    assert_eq!(client.ask(), answer("old"));
    assert_eq!(host.counters()["ports tcp . 80"], 1);
}

#[test]
fn status_tells_generation_drift_and_boot() {
    let host = Namespace::new().that_boots();
    let status = host.status();
    assert_eq!((&status["active"], &status["generation"]), (&json!(false), &Value::Null));

    host.apply(SOME_OF_EVERYTHING);
    let status = host.status();
    assert_eq!((&status["generation"], &status["drift"]), (&json!(1), &Value::Null));
    assert_eq!((&status["persisted"], &status["problems"]), (&Value::Null, &json!([])));
    host.portmap(["persist"]).run().succeeds();
    let said = host.portmap(["status"]).run().succeeds().stdout;
    assert!(said.contains("generation 1 is active") && said.contains("boot restores it"), "{said}");
    host.apply(&to(3000));
    let said = host.portmap(["status"]).run().succeeds().stdout;
    assert!(said.contains("boot restores another mapping, generation 1"), "{said}");
    assert_eq!(host.status()["persisted"], 1);

    host.nft("add element inet portmap ports { tcp . 81 : 3001 }");
    let status = host.status();
    assert_eq!((&status["generation"], &status["drift"]), (&json!(2), &json!("+ 81/tcp -> 3001")));
    host.portmap(["status"])
        .run()
        .succeeds()
        .says("another program has changed the mapping: + 81/tcp -> 3001");

    host.apply(&to(3000));
    assert_eq!(host.status()["drift"], Value::Null);
    assert_eq!(host.states()[1..], ["2 past", "3 active"], "a change like any other");
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(host.history()[3]["restores"], 1, "but not one to go back to");
}

#[test]
fn what_others_made_of_the_table_is_a_generation_once_it_is_applied() {
    let host = Namespace::new();
    host.apply(&to(3000));
    host.apply(&to(4000));
    // By hand the kernel is made to do what a file says, or what the generation before said.
    host.nft_script(
        "delete element inet portmap ports { tcp . 80 }
         add element inet portmap ports { tcp . 80 : 5000 }",
    );
    let outcome = host.apply(&to(5000));
    assert_eq!(host.states(), ["1 past", "2 past", "3 active"], "{outcome}");
    assert_eq!(host.status()["drift"], Value::Null);

    host.nft_script(
        "delete element inet portmap ports { tcp . 80 }
         add element inet portmap ports { tcp . 80 : 4000 }",
    );
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(host.status()["drift"], Value::Null);
    assert_eq!(host.history()[3]["restores"], 2);
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(host.portmap(["show"]).run().succeeds().stdout, "ports:\n  80: 3000\n");
}

#[test]
fn after_a_flush_by_others_status_and_rollback_lead_back() {
    let host = Namespace::new();
    host.apply(&to(3000));
    let table = host.table();
    host.nft("flush ruleset");

    host.portmap(["status"]).run().succeeds().says("rollback --to 1");
    assert_eq!(host.states(), ["1 past"]);
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(host.table(), table);
    assert_eq!(host.history()[1]["restores"], 1);
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(host.ruleset(), "");
    host.portmap(["rollback"]).run().fails_with(1).says("nothing came before");
}

#[test]
fn a_flush_between_two_applies_does_not_lose_the_way_back() {
    let host = Namespace::new();
    host.apply(&to(3000));
    host.apply(&to(4000));
    host.nft("flush ruleset");
    host.apply(&to(3000));
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(host.portmap(["show"]).run().succeeds().stdout, "ports:\n  80: 4000\n");
}

#[test]
fn a_table_without_history_is_adopted_by_the_next_apply() {
    let host = Namespace::new();
    host.portmap(["apply", "--no-history", "-"]).stdin(&to(3000)).run().succeeds();
    assert_eq!(host.history(), json!([]));
    assert_eq!(host.status()["generation"], Value::Null);
    host.portmap(["rollback"]).run().fails_with(1).says("not in the history");
    let table = host.table();

    let outcome = host.portmap(["apply", "-o", "json", "-"]).stdin(&to(3000)).run().succeeds();
    let document = outcome.json();
    assert_eq!((&document["changed"], &document["generation"]), (&json!(false), &json!(1)));
    assert_eq!(host.states(), ["1 active"]);
    assert_eq!(host.table(), table);

    // The history is lost, and so is its place in it.
    std::fs::remove_dir_all(host.dir().join("state")).unwrap();
    host.apply(&to(3000));
    assert_eq!(host.states(), ["2 active"], "a number is never used twice");
    host.portmap(["rollback"]).run().fails_with(1).says("not in the history");
}

#[test]
fn fifty_are_kept_and_the_persisted_one() {
    let host = Namespace::new().that_boots();
    host.apply(&to(3001));
    host.portmap(["persist"]).run().succeeds();
    for port in 3002..3060 {
        host.apply(&to(port));
    }

    let numbers: Vec<u64> =
        host.history().as_array().unwrap().iter().map(|g| g["number"].as_u64().unwrap()).collect();
    let kept: Vec<u64> = std::iter::once(1).chain(10..=59).collect();
    assert_eq!(numbers, kept);
    host.portmap(["rollback", "--to", "9"]).run().fails_with(1).says("no generation 9");
    host.portmap(["rollback", "--to", "1"]).run().succeeds();
}

#[test]
fn an_ordinary_user_reads_the_history_without_the_kernel() {
    let host = Namespace::new();
    host.apply(&to(3000));
    host.apply(&to(4000));

    let outcome = host.portmap_unprivileged(["history"]).run().succeeds();
    let said = outcome.says("which generation is active is not known");
    assert!(said.stdout.contains("committed") && !said.stdout.contains("past"), "{said}");
    let shown = host.portmap_unprivileged(["show", "1"]).run().succeeds();
    assert_eq!(shown.stdout, "ports:\n  80: 3000\n");
    host.portmap_unprivileged(["rollback"]).run().fails_with(1).says("CAP_NET_ADMIN");
}

#[test]
fn a_dry_run_of_clear_changes_nothing() {
    let host = Namespace::new();
    host.apply(&to(3000));
    let table = host.table();
    let clear = ["clear", "--dry-run", "--detailed-exitcode"];
    let shown = host.portmap(clear).run().fails_with(2).stdout;
    assert!(shown.contains("- 80/tcp"), "{shown}");
    assert_eq!(host.table(), table);
    host.portmap(["clear", "--detailed-exitcode"]).run().fails_with(2);
    host.portmap(["clear", "--detailed-exitcode"]).run().succeeds();
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(host.table(), table);
}

/// Which files of the history a run opens, each as often as it does.
fn opened(host: &Namespace, words: &[&str]) -> Vec<String> {
    let log = host.dir().join("opens.log");
    let mut strace = host.command("strace");
    strace.args(["-f", "-q", "-e", "trace=open,openat,openat2", "-o"]).arg(&log);
    strace.arg(crate::support::portmap::PROGRAM).args(words).current_dir(host.dir());
    host.output(strace.env("PORTMAP_STATE_DIR", host.dir().join("state")), "");
    let log = std::fs::read_to_string(log).unwrap();
    // By name, in a directory that is open already.
    let name = |line: &str| Some(line.split('"').nth(1)?.to_owned());
    let is_generation = |name: &String| name.starts_with("000") && name.contains(".yaml");
    log.lines().filter_map(name).filter(is_generation).collect()
}

#[test]
fn each_generation_is_read_once_and_none_where_nothing_has_changed() {
    let host = Namespace::new();
    for port in 3001..=3050 {
        host.apply(&to(port));
    }
    let again = opened(&host, &["apply", "rules.yaml"]);
    assert!(again.len() <= 1, "it is in force: {again:?}");
    host.nft("add table inet foreign");
    let again = opened(&host, &["apply", "rules.yaml"]);
    assert!(again.len() <= 1, "nobody has touched our table: {again:?}");

    host.file("new.yaml", &to(4000));
    let mut names = opened(&host, &["apply", "new.yaml"]);
    names.retain(|name| !name.starts_with("000051"));
    let all = names.len();
    names.sort();
    names.dedup();
    // Before the lock is taken, the active one has been looked at already.
    assert!(names.len() == 50 && all <= 51, "each of 50, once: {all} of {}", names.len());
}
