//! The scripts shells load. They hold no knowledge of their own: everything comes from `__complete`.

/// The shells there are scripts for.
pub const SHELLS: [&str; 4] = ["bash", "fish", "powershell", "zsh"];

/// The script of a shell for a program called `prog`; `described` says whether candidates come with
/// their descriptions.
pub fn script(shell: &str, prog: &str, described: bool) -> Option<String> {
    let text = match shell {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        "powershell" => POWERSHELL,
        _ => return None,
    };
    let request = if described { "__complete" } else { "__completeNoDesc" };
    Some(text.replace("@PROG@", prog).replace("@ASK@", request))
}

const BASH: &str = r#"# completion of @PROG@ for bash
_@PROG@_complete() {
    local IFS=$'\n' line reply directive current=${COMP_WORDS[COMP_CWORD]}
    local words=() word
    COMPREPLY=()
    # bash takes `=` for a word of its own.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $word == = ]] || words+=("$word")
    done
    [[ $current == = ]] && current=
    reply=$("${COMP_WORDS[0]}" @ASK@ "${words[@]}" "$current" 2>/dev/null) || return
    directive=0
    for line in $reply; do
        case $line in
            :*) directive=${line#:} ;;
            *)
                line=${line%%$'\t'*}
                [[ $line == "$current"* ]] && COMPREPLY+=("$line")
                ;;
        esac
    done
    if ((${#COMPREPLY[@]} == 0 && (directive & 4) == 0)); then
        compopt -o default 2>/dev/null
    fi
    # What stands before a colon is on the line already.
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local head=${current%"${current##*:}"} i
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]=${COMPREPLY[i]#"$head"}; done
    fi
}
complete -F _@PROG@_complete @PROG@
"#;

const ZSH: &str = r#"#compdef @PROG@
# completion of @PROG@ for zsh
_@PROG@() {
    local line directive=0
    local -a reply candidates
    reply=("${(@f)$(${words[1]} @ASK@ "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in $reply; do
        if [[ $line == :* ]]; then
            directive=${line#:}
        elif [[ -n $line ]]; then
            candidates+=("${${line%%$'\t'*}//:/\\:}${${(M)line%%$'\t'*}:+:${line#*$'\t'}}")
        fi
    done
    if (( ${#candidates} )); then
        _describe '@PROG@' candidates
    elif (( ! (directive & 4) )); then
        _files
    fi
}
if [[ $funcstack[1] == _@PROG@ ]]; then
    _@PROG@ "$@"
else
    compdef _@PROG@ @PROG@
fi
"#;

const FISH: &str = r#"# completion of @PROG@ for fish
function __@PROG@_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l directive 0
    set -l found 0
    for line in ($words[1] @ASK@ $words[2..-1] "$current" 2>/dev/null)
        if string match -q ':*' -- $line
            set directive (string sub -s 2 -- $line)
        else
            set found 1
            echo $line
        end
    end
    if test $found -eq 0 -a (math "bitand($directive, 4)") -eq 0
        __fish_complete_path "$current"
    end
end
complete -c @PROG@ -e
complete -c @PROG@ -f -a '(__@PROG@_complete)'
"#;

const POWERSHELL: &str = r#"# completion of @PROG@ for powershell
Register-ArgumentCompleter -Native -CommandName '@PROG@' -ScriptBlock {
    param($word, $ast, $position)
    $words = @($ast.CommandElements | Select-Object -Skip 1 | ForEach-Object { "$_" })
    if ($word -eq '') { $words += '""' }
    & '@PROG@' @ASK@ @words 2>$null | Where-Object { $_ -notlike ':*' } | ForEach-Object {
        $name, $text = $_ -split "`t", 2
        if (-not $text) { $text = $name }
        if ($name -like "$word*") {
            [System.Management.Automation.CompletionResult]::new($name, $name, 'ParameterValue', $text)
        }
    }
}
"#;

/// `completion --help`.
pub fn group_help(prog: &str) -> String {
    format!(
        "Usage:  {prog} completion COMMAND\n\nGenerate the autocompletion script for {prog} for the specified shell.\nSee each sub-command's help for details on how to use the generated script.\n\nCommands:\n  bash        Generate the autocompletion script for bash\n  fish        Generate the autocompletion script for fish\n  powershell  Generate the autocompletion script for powershell\n  zsh         Generate the autocompletion script for zsh\n\nRun '{prog} completion COMMAND --help' for more information on a command.\n"
    )
}

/// `completion SHELL --help`.
pub fn shell_help(prog: &str, shell: &str) -> String {
    let (flags, name) = match shell {
        "bash" => ("", "the bash shell"),
        "zsh" => (" [flags]", "the zsh shell"),
        "fish" => (" [flags]", "the fish shell"),
        _ => (" [flags]", "powershell"),
    };
    let now = match shell {
        "fish" => format!("{prog} completion fish | source"),
        "powershell" => format!("{prog} completion powershell | Out-String | Invoke-Expression"),
        shell => format!("source <({prog} completion {shell})"),
    };
    let before = match shell {
        "bash" => {
            "This script depends on the 'bash-completion' package.\nIf it is not installed already, you can install it via your OS's package manager.\n\n"
        }
        "zsh" => {
            "If shell completion is not already enabled in your environment you will need\nto enable it.  You can execute the following once:\n\n\techo \"autoload -U compinit; compinit\" >> ~/.zshrc\n\n"
        }
        _ => "",
    };
    let always = match shell {
        "bash" => format!(
            "To load completions for every new session, execute once:\n\n#### Linux:\n\n\t{prog} completion bash > /etc/bash_completion.d/{prog}\n\n#### macOS:\n\n\t{prog} completion bash > $(brew --prefix)/etc/bash_completion.d/{prog}\n\nYou will need to start a new shell for this setup to take effect.\n"
        ),
        "zsh" => format!(
            "To load completions for every new session, execute once:\n\n#### Linux:\n\n\t{prog} completion zsh > \"${{fpath[1]}}/_{prog}\"\n\n#### macOS:\n\n\t{prog} completion zsh > $(brew --prefix)/share/zsh/site-functions/_{prog}\n\nYou will need to start a new shell for this setup to take effect.\n"
        ),
        "fish" => format!(
            "To load completions for every new session, execute once:\n\n\t{prog} completion fish > ~/.config/fish/completions/{prog}.fish\n\nYou will need to start a new shell for this setup to take effect.\n"
        ),
        _ => "To load completions for every new session, add the output of the above command\nto your powershell profile.\n".to_owned(),
    };
    format!(
        "Usage:  {prog} completion {shell}{flags}\n\nGenerate the autocompletion script for {name}.\n\n{before}To load completions in your current shell session:\n\n\t{now}\n\n{always}\nOptions:\n      --no-descriptions   disable completion descriptions\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_name_the_program_and_the_request() {
        for shell in SHELLS {
            let text = script(shell, "docker", true).unwrap();
            assert!(text.contains("docker") && text.contains("__complete "), "{shell}");
            assert!(!text.contains("@PROG@") && !text.contains("@ASK@"), "{shell}");
        }
        assert!(script("tcsh", "docker", true).is_none());
        assert!(script("bash", "x", false).unwrap().contains("__completeNoDesc"));
    }
}
