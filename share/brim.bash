# SPDX-License-Identifier: Apache-2.0
# Completion of brim(1) for bash. Commands and options come from brim's own help, names from
# `brim ps -q`, so that nothing here has to be kept in step with the program.

_brim() {
    local word=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]} command=${COMP_WORDS[1]} line
    local -a words=()

    if ((COMP_CWORD == 1)); then
        while read -r line _; do
            words+=("$line")
        done < <("$program" --help 2>/dev/null | grep '^  [a-z]')
        words+=(--help --version)
    elif [[ $word == -* ]]; then
        while read -r line; do
            words+=("$line")
        done < <("$program" "$command" --help 2>/dev/null | grep -o -e '--[a-z][a-z-]*' | sort -u)
    else
        case $command in
        why | stop | trim)
            while read -r line; do
                words+=("$line")
            done < <("$program" ps -q 2>/dev/null)
            ;;
        help)
            while read -r line _; do
                words+=("$line")
            done < <("$program" --help 2>/dev/null | grep '^  [a-z]')
            ;;
        esac
    fi
    COMPREPLY=()
    for line in "${words[@]}"; do
        [[ $line == "$word"* ]] && COMPREPLY+=("$line")
    done
}

complete -o default -F _brim brim
