# gridhub_untrusted FOLDER OWNER: print why others than root and the account OWNER could replace
# what is in the folder; print nothing if nobody could. All folders above it count too.
gridhub_untrusted() {
    local at=$1 mode owner path
    local -i looked_at=0
    local paths=("$at")
    while [ "$at" != / ]; do
        at=${at%/*}
        at=${at:-/}
        paths+=("$at")
    done
    while read -r owner mode path; do
        looked_at+=1
        if [ "$owner" != root ] && [ "$owner" != "$2" ]; then
            echo "$path belongs to $owner, not to $2"
            return
        fi
        # In a folder with the sticky bit (t, T), only an entry's owner can replace it.
        if [[ $mode == d???????w[!tT]* ]]; then
            echo "every account may write to $path"
            return
        fi
    done < <(/usr/bin/stat -c '%U %A %n' -- "${paths[@]}")
    [ "$looked_at" = "${#paths[@]}" ] || echo "$1 cannot be looked at"
}
