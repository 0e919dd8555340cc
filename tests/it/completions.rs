//! What the Tab key offers, asked of the shells themselves.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use portmap::cli::Cli;

use crate::support::Namespace;
use crate::support::portmap::PROGRAM;

/// A host with two generations, and with files of which some are rules.
fn host() -> Namespace {
    let host = Namespace::new();
    host.apply("ports: { 80: 3000 }");
    host.apply("ports: { 80: 4000 }");
    host.file("rapid.yml", "");
    host.file("readme.txt", "");
    fs::create_dir(host.dir().join("rules.d")).unwrap();
    host
}

/// What begins with the last word, and what else must not be offered.
const OFFERS: [(&str, &[&str], &[&str]); 10] = [
    ("portmap appl", &["apply"], &[]),
    ("portmap apply r", &["rapid.yml", "rules.yaml", "rules.d"], &["readme.txt"]),
    ("portmap check r", &["rapid.yml", "rules.yaml", "rules.d"], &["readme.txt"]),
    ("portmap show ", &["1", "2"], &["rules"]),
    ("portmap rollback ", &["1", "2"], &["rules"]),
    ("portmap rollback --to ", &["1", "2"], &["rules"]),
    ("portmap history --diff ", &["1", "2"], &["rules"]),
    ("portmap history --diff 1 ", &["1", "2"], &["rules"]),
    ("portmap man r", &["rules", "rollback"], &["rapid"]),
    ("portmap status --o", &["--output"], &[]),
];

#[track_caller]
fn offers(shell: &str, line: &str, offered: &[&str], has: &[&str], has_not: &[&str]) {
    for word in has {
        assert!(offered.contains(word), "{shell}: {line}: no {word} in {offered:?}");
    }
    for word in has_not {
        let wrong = offered.iter().any(|offered| offered.starts_with(word));
        assert!(!wrong, "{shell}: {line}: {word} in {offered:?}");
    }
}

/// Where the program is.
fn directory() -> String {
    Path::new(PROGRAM).parent().expect("a directory").display().to_string()
}

fn commands() -> Vec<String> {
    let commands = Cli::command();
    let shown = commands.get_subcommands().filter(|command| !command.is_hide_set());
    shown.map(|command| command.get_name().to_owned()).collect()
}

#[test]
fn bash_offers_commands_generations_pages_and_rules_files() {
    let host = host();
    let ask = |line: &str| {
        let words = if line.ends_with(' ') { format!("{line}''") } else { line.to_owned() };
        let script = format!(
            "source <(portmap completions bash); COMP_WORDS=({words}); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_TYPE=9; \
             _clap_complete_portmap portmap \"${{COMP_WORDS[-1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let (_, stdout, stderr) = host.shell(&script);
        assert_eq!(stderr, "", "{line}");
        stdout
    };
    for (line, has, has_not) in OFFERS {
        let answer = ask(line);
        let offered: Vec<_> =
            answer.lines().map(|line| line.trim().trim_end_matches('/')).collect();
        offers("bash", line, &offered, has, has_not);
    }
    let answer = ask("portmap ");
    for command in commands() {
        assert!(answer.lines().any(|line| line.trim() == command), "{command}: {answer}");
    }
}

/// What is offered is put on the line, which is executed then.
#[test]
fn bash_quotes_names_of_files() {
    let host = Namespace::new();
    for dir in ["hostile", "ordinary", "ordinary/rules.d"] {
        fs::create_dir(host.dir().join(dir)).unwrap();
    }
    fs::write(host.dir().join("hostile/rules$(touch made).yaml"), "").unwrap();
    fs::write(host.dir().join("ordinary/with space.yaml"), "").unwrap();
    let shell = "PATH=$(dirname \"$1\"):$PATH; exec bash --norc --noprofile -i";
    let mut terminal = host.portmap_mounted(shell, ["x"]).at_terminal();
    terminal.press(
        "PS1=; source <(portmap completions bash); say() { printf '<%s>' \"$@\"; }; \
         eval \"$(complete -p portmap | sed 's/ portmap$/ say/')\"; echo rea''dy\n",
    );
    terminal.shows("ready\r\n");
    terminal.press("cd ordinary\nsay check w\t\n");
    terminal.shows("<check><with space.yaml>");
    terminal.press("say check r\t\n");
    terminal.shows("<check><rules.d/>");
    terminal.press("cd ../hostile\nsay check r\t\n");
    terminal.shows("<check><rules$(touch made).yaml>");
    terminal.press("exit\n");
    terminal.ends();
    assert!(!host.dir().join("hostile/made").exists());
}

/// Those of the state directory that the line names.
#[test]
fn generations_are_those_of_the_directory_on_the_line() {
    let host = host();
    let ask = |words: &str| {
        let script = format!(
            "export _CLAP_IFS=' ' _CLAP_COMPLETE_TYPE=9; set -- {words}; \
             _CLAP_COMPLETE_INDEX=$(($# - 1)) PORTMAP_COMPLETE=bash portmap -- \"$@\""
        );
        host.shell(&script).1
    };
    assert!(ask("portmap show ''").contains('2'));
    for words in ["--state-dir nowhere", "--state-dir = nowhere", "--state-dir=nowhere"] {
        let offered = ask(&format!("portmap {words} show ''"));
        assert!(!offered.contains('2'), "{words}: {offered}");
        let there = words.replace("nowhere", "state");
        assert!(ask(&format!("portmap {there} show ''")).contains('2'), "{there}");
    }
}

#[test]
fn fish_offers_commands_generations_pages_and_rules_files() {
    let host = host();
    if !host.is_installed("fish") {
        return;
    }
    let ask = |line: &str| {
        let script = format!(
            "portmap completions fish > portmap.fish && PATH={}:$PATH \
             fish --no-config -c \"source portmap.fish; complete -C '{line}'\"",
            directory()
        );
        let (code, stdout, stderr) = host.shell(&script);
        assert_eq!((code, &*stderr), (Some(0), ""), "{line}");
        stdout
    };
    for (line, has, has_not) in OFFERS {
        let answer = ask(line);
        let offered: Vec<_> =
            answer.lines().map(|line| line.split(['\t', '/']).next().unwrap_or_default()).collect();
        offers("fish", line, &offered, has, has_not);
    }
    let answer = ask("portmap ");
    for command in commands() {
        let begins = format!("{command}\t");
        assert!(answer.lines().any(|line| line.starts_with(&begins)), "{command}: {answer}");
    }
}

#[test]
fn zsh_offers_commands_generations_pages_and_rules_files() {
    let host = host();
    if !host.is_installed("zsh") {
        return;
    }
    // At a terminal, as its completion only works there: `$1` is the program.
    let shell = "PATH=$(dirname \"$1\"):$PATH; exec zsh -f -i";
    let commands = commands();
    let commands: Vec<_> = commands.iter().map(String::as_str).collect();
    let all = [("portmap ", &*commands, &[][..])];
    // What is completed at once is not listed.
    let listed = OFFERS.into_iter().filter(|(_, has, _)| has.len() > 1);
    for (line, has, has_not) in listed.chain(all) {
        let mut terminal = host.portmap_mounted(shell, ["x"]).at_terminal();
        terminal.press(
            "PS1=; LISTMAX=1000; unsetopt beep prompt_cr prompt_sp; autoload -U compinit; \
             compinit -D; source <(portmap completions zsh); setopt no_auto_menu; echo rea''dy\n",
        );
        terminal.shows("ready\r\n");
        terminal.press(&format!("{line}\t\t"));
        for word in has {
            terminal.shows(word);
        }
        // Whatever is offered is on the screen before the answer to the next line.
        terminal.press("\x15echo do''ne; exit\n");
        terminal.shows("done");
        let (_, screen) = terminal.ends();
        let after = screen.split("ready\r\n").nth(1).unwrap_or_default();
        for word in has_not.iter().filter(|word| **word == "readme.txt") {
            assert!(!after.contains(word), "zsh: {line}: {after}");
        }
    }
}
