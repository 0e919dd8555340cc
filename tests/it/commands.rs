//! The command line as its users meet it: what it promises in --help, what it prints where, how it
//! ends, and what it does with input that nobody would write on purpose.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{CommandFactory, Parser};
use portmap::cli::Cli;

use crate::support::namespace::feed;
use crate::support::portmap::PROGRAM;
use crate::support::{Namespace, skip};

const RULES: &str = "ports: { 80: 3000, 443: 8443 }\n";

impl Namespace {
    /// A line for sh(1), in which `portmap` is the program under test.
    #[track_caller]
    pub fn shell(&self, line: &str) -> (Option<i32>, String, String) {
        let script = format!("portmap() {{ command {PROGRAM} \"$@\"; }}\n{line}");
        let mut command = self.command("bash");
        command.args(["-c", &script]).current_dir(self.dir());
        command.env("PORTMAP_STATE_DIR", self.dir().join("state")).env_remove("NO_COLOR");
        let Output { status, stdout, stderr } = feed(&mut command, "");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (status.code(), text(stdout), text(stderr))
    }

    /// Says that something is left out if it is not.
    pub fn is_installed(&self, program: &str) -> bool {
        let is = self.shell(&format!("type -P {program}")).0 == Some(0);
        if !is {
            skip(&format!("{program} is not installed"));
        }
        is
    }
}

/// The words of a line, as a shell splits it.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("never empty").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The lines below `Examples:`, without what is said about them.
fn examples(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let lines = lines.take_while(|line| line.starts_with("  "));
    lines.map(|line| line.trim().split("  ").next().unwrap_or_default().to_owned()).collect()
}

/// As programs of this kind do: what is missing is wrong usage, and the help is the message.
#[test]
fn without_a_command_the_help_is_the_error() {
    let host = Namespace::new();
    let bare = host.portmap([""; 0]).run().fails_with(64);
    let asked = host.portmap(["-h"]).run().succeeds();
    assert_eq!((&*bare.stdout, &*bare.stderr), ("", &*asked.stdout));
    assert!(bare.stderr.contains("sudo portmap apply rules.yaml"), "{bare}");
    let bare = host.portmap(["-o", "json"]).run().fails_with(64);
    let document: serde_json::Value = serde_json::from_str(&bare.stderr).expect("JSON");
    assert_eq!(document["errors"][0]["message"], "there is no command", "{bare}");
}

#[test]
fn what_is_to_be_applied_is_no_command() {
    let host = Namespace::new();
    let wrong = |word: &str| host.portmap([word]).run().fails_with(64);
    wrong("80:3000").says("tip: to apply it, type `sudo portmap apply 80:3000`");
    wrong("my rules.yaml").says("`sudo portmap apply 'my rules.yaml'`");
    assert!(!wrong("start").stderr.contains("tip"));
}

#[test]
fn every_example_in_help_can_be_typed() {
    let host = Namespace::new();
    let root = Cli::command();
    let mut commands: Vec<Vec<&str>> = vec![vec![]];
    let shown = root.get_subcommands().filter(|command| !command.is_hide_set());
    commands.extend(shown.map(|command| vec![command.get_name()]));
    for command in commands {
        let help = host.portmap(command.iter().chain(&["--help"])).run().succeeds().stdout;
        let examples = examples(&help);
        assert!(!examples.is_empty(), "{command:?}: no examples: {help}");
        for example in examples {
            let mut seen = 0;
            for part in example.split(['|', '>']) {
                let words = words(part);
                let words = words.iter().skip_while(|word| *word == "sudo");
                let words: Vec<_> = words.collect();
                if words.first().is_some_and(|word| *word == "portmap") {
                    Cli::try_parse_from(&words).unwrap_or_else(|e| panic!("{example}: {e}"));
                    let name = command.first();
                    let named = name.is_none_or(|name| words.iter().any(|word| word == name));
                    assert!(named, "{example}: an example of {command:?}");
                    seen += 1;
                }
            }
            assert_eq!(seen, 1, "{example}: no example of portmap");
        }
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn exit_codes_are_what_the_manual_says() {
    let host = Namespace::new();
    host.file("rules.yaml", RULES);
    host.file("other.yaml", "ports: { 80: 4000 }");
    host.file("wrong.yaml", "ports: { 80: 0 }");
    let codes: &[(&str, i32)] = &[
        ("--version", 0),
        ("--help", 0),
        ("check rules.yaml", 0),
        ("check wrong.yaml", 1),
        ("check absent.yaml", 1),
        ("check", 1),
        ("render rules.yaml", 0),
        ("render wrong.yaml", 1),
        ("plan rules.yaml", 0),
        ("plan --detailed-exitcode rules.yaml", 2),
        ("diff --detailed-exitcode rules.yaml", 2),
        ("plan --detailed-exitcode wrong.yaml", 1),
        ("apply --dry-run --detailed-exitcode rules.yaml", 2),
        ("apply --detailed-exitcode rules.yaml", 2),
        ("apply --detailed-exitcode rules.yaml", 0),
        ("apply --detailed-exitcode wrong.yaml", 1),
        ("clear --dry-run --detailed-exitcode", 2),
        ("clear --detailed-exitcode", 2),
        ("clear --detailed-exitcode", 0),
        ("apply rules.yaml", 0),
        ("apply other.yaml", 0),
        ("rollback --dry-run --detailed-exitcode", 2),
        ("rollback --detailed-exitcode", 2),
        ("rollback --to 99", 1),
        // Nothing restores it here, whether or not anything is changed.
        ("persist", 3),
        ("persist", 3),
        ("persist --off", 0),
        ("apply --persist --detailed-exitcode rules.yaml", 3),
        ("apply --persist --detailed-exitcode rules.yaml", 3),
        ("clear --persist --detailed-exitcode", 2),
        ("apply rules.yaml", 0),
        ("confirm", 1),
        ("show 99", 1),
        ("man nothing", 1),
        ("", 64),
        ("frobnicate", 64),
        ("apply --frobnicate", 64),
        ("apply --confirm 0s rules.yaml", 64),
        ("apply --confirm 60s --persist rules.yaml", 64),
        ("apply --dry-run --persist rules.yaml", 64),
        ("show eighty", 64),
        ("--quiet --verbose status", 64),
        ("-o xml status", 64),
        ("--wait never status", 64),
        ("completions tcsh", 64),
        ("schema nothing", 64),
    ];
    for (line, code) in codes {
        host.portmap(words(line)).run().fails_with(*code);
    }
    for page in ["portmap", "persist", "apply", "confirm", "reload"] {
        let page = if page == "portmap" { vec!["man"] } else { vec!["man", page] };
        let text = host.portmap(page).run().succeeds().stdout;
        let status = text.split(".SH \"EXIT STATUS\"").nth(1).expect("a section");
        assert!(status.contains("nothing on this host restores it at boot"), "{status}");
    }
}

#[test]
fn a_wrong_command_line_is_a_document_if_that_is_asked_for() {
    let host = Namespace::new();
    for line in ["-o json frobnicate", "--output=json apply --frobnicate", "status x -ojson"] {
        let outcome = host.portmap(words(line)).run().fails_with(64);
        let document: serde_json::Value = serde_json::from_str(&outcome.stderr).expect("JSON");
        assert!(document["errors"][0]["message"].is_string(), "{outcome}");
    }
    let outcome = host.portmap(["frobnicate"]).run().fails_with(64);
    assert!(outcome.stderr.starts_with("error: unrecognized subcommand"), "{outcome}");
}

#[test]
fn what_is_mistyped_is_told_what_it_resembles() {
    let host = Namespace::new();
    let tip = |line| {
        let said = host.portmap(words(line)).run().fails_with(64).stderr;
        said.split_once("exists: ").map(|(_, meant)| meant.lines().next().unwrap().to_owned())
    };
    for (line, meant) in [
        ("aply rules.yaml", Some("'apply'")),
        ("rollbakc", Some("'rollback'")),
        ("apply --dryrun rules.yaml", Some("'--dry-run'")),
        ("apply --outptu=json rules.yaml", Some("'--output'")),
        ("--verzion", Some("'--version'")),
        // Many letters in common are no resemblance.
        ("stop", None),
        ("start", None),
        ("apply --yes", None),
        // An option of another command.
        ("check --dry-rum", None),
    ] {
        assert_eq!(tip(line).as_deref(), meant, "{line}");
    }
}

#[test]
fn quiet_leaves_what_was_asked_for_and_errors() {
    let host = Namespace::new();
    host.file("rules.yaml", RULES);
    host.file("warned.yaml", "ports: { 80: 40000 }");
    host.file("wrong.yaml", "ports: { 80: 0 }");

    let quiet = |line| host.portmap(words(line)).run();
    let plan = quiet("plan -q rules.yaml").succeeds();
    assert_eq!(plan.stdout, "+ 80/tcp -> 3000\n+ 443/tcp -> 8443\n", "{plan}");
    for line in ["check -q warned.yaml", "apply -q rules.yaml", "apply --quiet rules.yaml"] {
        let outcome = quiet(line).succeeds();
        assert_eq!((&*outcome.stdout, &*outcome.stderr), ("", ""), "{outcome}");
    }
    let status = quiet("status -q").succeeds();
    assert!(status.stdout.contains("80/tcp"), "{status}");
    assert_eq!(status.stdout.lines().count(), 3, "{status}");
    quiet("check -q wrong.yaml").fails_with(1).says("0 is not a port");
    let outcome = quiet("clear -q").succeeds();
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("", ""), "{outcome}");
}

#[test]
fn colour_is_for_terminals_unless_told() {
    let host = Namespace::new();
    host.file("rules.yaml", RULES);
    host.file("wrong.yaml", "ports: { 80: 0 }");
    // Nothing to warn of.
    let _apps = [3000, 8443].map(|port| host.serve("app", port));
    let is_coloured = |line: &str| {
        let (_, stdout, stderr) = host.shell(line);
        [stdout, stderr].map(|text| text.contains('\x1b'))
    };
    let terminal = |line: &str| format!("script -qec '{PROGRAM} {line}' /dev/null </dev/null");

    assert_eq!(is_coloured("portmap plan rules.yaml"), [false, false]);
    assert_eq!(is_coloured("portmap plan --color always rules.yaml"), [true, false]);
    assert_eq!(is_coloured("NO_COLOR=1 portmap plan --color always rules.yaml"), [true, false]);
    assert_eq!(is_coloured("portmap check --color always wrong.yaml"), [false, true]);
    assert_eq!(is_coloured("portmap check wrong.yaml"), [false, false]);
    assert_eq!(is_coloured("portmap -o json plan --color always rules.yaml"), [false, false]);
    if host.is_installed("script") {
        let line = terminal("plan rules.yaml");
        assert_eq!(is_coloured(&format!("TERM=xterm {line}")), [true, false]);
        assert_eq!(is_coloured(&format!("TERM=xterm NO_COLOR=1 {line}")), [false, false]);
        assert_eq!(is_coloured(&format!("TERM=xterm NO_COLOR= {line}")), [true, false]);
        assert_eq!(is_coloured(&format!("TERM=dumb {line}")), [false, false]);
        let never = terminal("plan --color never rules.yaml");
        assert_eq!(is_coloured(&format!("TERM=xterm {never}")), [false, false]);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let host = Namespace::new();
    host.file("rules.yaml", "ports: { 1-1000/tcp+udp: 20001-21000 }");
    for line in ["render rules.yaml", "--help", "man apply", "schema", "plan -q rules.yaml"] {
        // The reader is gone before there is anything to read.
        let line = format!(
            "exec 3>&1; {{ sleep 0.05; portmap {line}; echo \"code $?\" >&3; }} | true 3>&-"
        );
        let (_, stdout, stderr) = host.shell(&line);
        assert_eq!((&*stdout, &*stderr), ("code 0\n", ""), "{line}");
    }
}

#[test]
fn what_cannot_be_printed_is_a_failure() {
    let host = Namespace::new();
    host.file("rules.yaml", RULES);
    let lines = [
        "check rules.yaml",
        "render rules.yaml",
        "plan rules.yaml",
        "-o json plan rules.yaml",
        "status",
        "history",
        "man",
        "schema",
        "completions bash",
        "--help",
        "--version",
        "apply --help",
    ];
    for line in lines {
        let (code, _, stderr) = host.shell(&format!("portmap {line} > /dev/full"));
        assert_eq!(code, Some(1), "{line}: {stderr}");
        assert!(stderr.contains("print the result"), "{line}: {stderr}");
    }
    assert_eq!(host.ruleset(), "");
    // What was done is done, and said where there is still somebody who hears.
    let (code, _, stderr) = host.shell("portmap apply rules.yaml > /dev/full");
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("the change was made"), "{stderr}");
    assert!(host.ruleset().contains("tcp . 443"));
    let (code, _, stderr) = host.shell("portmap show > /dev/full");
    assert_eq!(code, Some(1), "{stderr}");
    let (code, _, stderr) = host.shell("portmap check absent.yaml 2> /dev/full");
    assert_eq!((code, &*stderr), (Some(1), ""));
}

#[test]
fn several_files_and_directories_are_one_mapping() {
    let host = Namespace::new();
    host.file("a.yaml", "ports: { 80: 3000 }");
    host.file("d/20.yml", "ports: { 443: 8443 }");
    host.file("d/10.yaml", "ports: { 53/udp: 5353 }");
    let line = "portmap render a.yaml d - <<< 'ports: { 25: 2525 }'";
    let (code, stdout, stderr) = host.shell(line);
    assert_eq!((code, &*stderr), (Some(0), ""));
    for element in ["tcp . 80 : 3000", "tcp . 443 : 8443", "udp . 53 : 5353", "tcp . 25 : 2525"] {
        assert!(stdout.contains(element), "{stdout}");
    }

    host.file("b.yaml", "ports: { 80: 4000 }");
    let outcome = host.portmap(["check", "a.yaml", "b.yaml"]).run().fails_with(1);
    assert!(outcome.stderr.contains("b.yaml:1:10"), "both places: {outcome}");
    assert!(outcome.stderr.contains("a.yaml:1:10"), "both places: {outcome}");
}

#[test]
fn without_a_file_etc_portmap_is_read() {
    let host = Namespace::new();
    // A private /etc, with nothing else in it.
    let etc = |setup: &str| {
        host.shell(&format!(
            "exec unshare --mount bash -c 'mount -t tmpfs tmpfs /etc && {setup} && \
             {PROGRAM} apply && {PROGRAM} check'"
        ))
    };
    let (code, stdout, stderr) = etc("mkdir /etc/portmap && \
         echo \"ports: { 80: 3000 }\" > /etc/portmap/a.yaml && \
         echo \"ports: { 443: 8443 }\" > /etc/portmap/b.yml");
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("/etc/portmap/b.yml: 2 mappings, no mistakes"), "{stdout}");
    assert!(host.ruleset().contains("tcp . 443"));

    let (code, _, stderr) = etc("true");
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("/etc/portmap"), "{stderr}");
}

/// With at most 512 MiB of memory, and five seconds of a processor, of which a tenth is enough. It
/// does not wait for anything either.
#[track_caller]
fn is_refused_promptly(host: &Namespace, input: &str) {
    for command in ["check", "plan"] {
        let line =
            format!("ulimit -v 524288 -t 5; timeout --kill-after=1 60 {PROGRAM} {command} {input}");
        let (code, stdout, stderr) = host.shell(&line);
        let shown: String = stderr.chars().take(500).collect();
        assert_eq!((code, &*stdout), (Some(1), ""), "{command} {input}: {shown}");
        assert!(stderr.contains("error: "), "{command} {input}: {shown}");
        assert!(stderr.len() < 100_000, "{command} {input}: {} bytes", stderr.len());
    }
}

#[test]
fn hostile_input_is_refused_promptly_and_in_little_memory() {
    let host = Namespace::new();
    let mut garbage = 0x2545_f491_u32;
    let garbage: Vec<u8> = std::iter::repeat_with(|| {
        garbage ^= garbage << 13;
        garbage ^= garbage >> 17;
        garbage ^= garbage << 5;
        garbage as u8
    })
    .take(1 << 20)
    .collect();
    fs::write(host.file("binary.yaml", ""), &garbage).unwrap();
    let letters: String = garbage.iter().map(|byte| char::from(32 + byte % 95)).collect();
    host.file("letters.yaml", &letters);
    host.file("nulls.yaml", &"\0".repeat(1 << 20));
    let bomb = |c: char, d: char| format!("{d}: &{d} [{}]\n", format!("*{c},").repeat(9));
    let bomb: String = ('a'..='y').map(|c| bomb(c, char::from(c as u8 + 1))).collect();
    host.file("bomb.yaml", &format!("a: &a [x]\n{bomb}ports: *z\n"));
    host.file("deep.yaml", &"[".repeat(100_000));
    host.file("deeper.yaml", &"{a: ".repeat(100_000));
    host.file("dashes.yaml", &"- ".repeat(100_000));
    host.file("huge.yaml", &"#".repeat((16 << 20) + 1));
    host.file("truncated.yaml", "ports:\n  80: 3000\n  443: {to: 84");
    host.file("none/readme.txt", "no rules");
    nix::unistd::mkfifo(&host.dir().join("fifo.yaml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    host.file("fifo/placeholder", "");
    nix::unistd::mkfifo(&host.dir().join("fifo/a.yaml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::os::unix::fs::symlink("loop.yaml", host.dir().join("loop.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", host.dir().join("dangling.yaml")).unwrap();

    let inputs = [
        "binary.yaml",
        "letters.yaml",
        "nulls.yaml",
        "bomb.yaml",
        "deep.yaml",
        "deeper.yaml",
        "dashes.yaml",
        "huge.yaml",
        "truncated.yaml",
        "none",
        "fifo.yaml",
        "fifo",
        "loop.yaml",
        "dangling.yaml",
        "absent.yaml",
        "/dev/zero",
        "/dev/null",
        "- < /dev/zero",
        "- < /dev/null",
        "- < binary.yaml",
        "- < bomb.yaml",
        "- <&-",
    ];
    for input in inputs {
        is_refused_promptly(&host, input);
    }
}

#[test]
fn a_file_that_comes_and_goes_is_read_or_reported() {
    let host = Namespace::new();
    host.file("d/a.yaml", "ports: { 80: 3000 }");
    let (here, done) = (host.dir().join("d/b.yaml"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::write(&here, "ports: { 443: 8443 }").unwrap();
                fs::set_permissions(&here, fs::Permissions::from_mode(0o644)).unwrap();
                fs::remove_file(&here).unwrap();
            }
        });
        for _ in 0..30 {
            let outcome = host.portmap(["check", "d"]).run();
            let read = outcome.code == Some(0) && outcome.stderr.is_empty();
            let reported = outcome.code == Some(1) && outcome.stderr.contains("b.yaml");
            if !(read || reported) {
                done.store(true, Ordering::Relaxed);
                panic!("{outcome}");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_kernel_without_what_is_needed_is_named() {
    let host = Namespace::new();
    host.file("rules.yaml", RULES);
    let faults = [
        ("socket:error=EPROTONOSUPPORT", "CONFIG_NF_TABLES"),
        ("socket:error=EAFNOSUPPORT", "CONFIG_NF_TABLES"),
        ("sendto:error=EPERM", "CAP_NET_ADMIN"),
        ("recvmsg:error=ENOBUFS", "receive from the kernel"),
    ];
    for (fault, said) in faults {
        for command in ["apply rules.yaml", "plan rules.yaml", "status", "clear"] {
            let line = format!("strace -qq -f -o /dev/null -e inject={fault} {PROGRAM} {command}");
            let (code, _, stderr) = host.shell(&line);
            assert_eq!(code, Some(1), "{fault} {command}: {stderr}");
            assert!(stderr.contains(said), "{fault} {command}: {stderr}");
        }
    }
    assert_eq!(host.ruleset(), "");
}

#[test]
fn without_privileges_one_line_says_what_is_missing() {
    let host = Namespace::new();
    host.file("rules.yaml", RULES);
    for line in [
        "plan rules.yaml",
        "apply rules.yaml",
        "apply --dry-run rules.yaml",
        "status",
        "clear",
        "rollback",
        "confirm",
        "persist",
    ] {
        let outcome = host.portmap_unprivileged(words(line)).run();
        let outcome = outcome.fails_with(1).says("CAP_NET_ADMIN");
        assert_eq!(
            outcome.stderr.lines().count(),
            2,
            "one that says it, one that helps: {outcome}"
        );
    }
}

#[test]
fn every_port_there_is() {
    let host = Namespace::new();
    let all = "ports:\n  1-79/tcp+udp: 1-79\n  80/tcp+udp: 3000\n  81-65535/tcp+udp: 81-65535\n";
    host.file("rules.yaml", all);
    let json = |line: &str| host.portmap(words(line)).run().succeeds().json();

    assert_eq!(json("apply -o json rules.yaml")["changed"], true);
    let status = json("status -o json");
    let mappings = status["mappings"].as_array().unwrap();
    assert_eq!(mappings.len(), 2 * 65_535);
    assert_eq!((&mappings[79]["port"], &mappings[79]["to"]), (&80.into(), &3000.into()));
    assert_eq!((&status["drift"], &status["foreign"]), (&().into(), &serde_json::json!([])));
    assert_eq!(json("plan -o json rules.yaml")["changed"], false);

    host.file("rules.yaml", &all.replace("3000", "4000"));
    let before = host.ruleset_generation();
    let changes = json("apply -o json rules.yaml");
    assert_eq!(changes["changes"].as_array().unwrap().len(), 2, "80/tcp and 80/udp");
    assert_eq!(host.ruleset_generation(), before + 1);
    let elements = host.nft("get element inet portmap ports { udp . 80, tcp . 65535 }");
    assert!(elements.contains("udp . 80 : 4000"), "{elements}");
    assert!(elements.contains("tcp . 65535 : 65535"), "{elements}");

    host.portmap(["clear", "-q"]).run().succeeds();
    assert_eq!(host.ruleset(), "");
}

#[test]
fn completions_are_understood_by_their_shells() {
    let host = Namespace::new();
    let tests = [
        ("bash", "source <(portmap completions bash) && complete -p portmap"),
        (
            "zsh",
            "portmap completions zsh > _portmap && zsh -fc 'autoload -U compinit && compinit -D && source ./_portmap'",
        ),
        (
            "fish",
            "portmap completions fish > portmap.fish && fish --no-config -c 'source portmap.fish'",
        ),
    ];
    for (shell, line) in tests {
        host.portmap(["completions", shell]).run().succeeds();
        if host.is_installed(shell) {
            let (code, _, stderr) = host.shell(line);
            assert_eq!((code, &*stderr), (Some(0), ""), "{shell}");
        }
    }
}

#[test]
fn manual_pages_are_there_for_every_command_and_without_warnings() {
    let host = Namespace::new();
    host.portmap(["man", "--output-dir", "man"]).run().succeeds();
    let mut pages = vec!["man8/portmap.8".to_owned(), "man5/portmap-rules.5".to_owned()];
    let commands = Cli::command();
    let shown = commands.get_subcommands().filter(|command| !command.is_hide_set());
    let commands = shown.map(|c| format!("man8/portmap-{}.8", c.get_name()));
    pages.extend(commands);
    let [mandoc, groff] = ["mandoc", "groff"].map(|program| host.is_installed(program));
    for page in &pages {
        let text = fs::read_to_string(host.dir().join("man").join(page)).expect(page);
        assert!(text.contains(".SH NAME"), "{page}");
        let checks = [
            (mandoc, format!("mandoc -T lint -W error man/{page}")),
            (groff, format!("groff -man -ww -z -K utf8 -Tutf8 man/{page} 2>&1 1>/dev/null")),
        ];
        for (_, line) in checks.iter().filter(|(is_installed, _)| *is_installed) {
            let (code, stdout, stderr) = host.shell(line);
            assert_eq!((code, &*stdout, &*stderr), (Some(0), "", ""), "{line}");
        }
    }
    let found: usize = ["man8", "man5"]
        .map(|section| fs::read_dir(host.dir().join("man").join(section)).unwrap().count())
        .iter()
        .sum();
    assert_eq!(found, pages.len());
}
