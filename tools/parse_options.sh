# Turns every variable that is set already into an option: --name value or --name=value.
# Source it after the defaults. Options it does not know are collected in $extra and passed on.
extra=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[1]}"; exit 0 ;;
    --*=*) name=${1%%=*}; value=${1#*=}; shift ;;
    --*) name=$1; value=${2-}
         [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 1; }
         shift 2 ;;
    *) echo "error: unexpected argument $1; options are --name value" >&2; exit 1 ;;
  esac
  variable=${name#--}
  if [[ $variable =~ ^[a-z_]+$ ]] && declare -p "$variable" >/dev/null 2>&1 && [[ " $options " == *" $variable "* ]]; then
    printf -v "$variable" '%s' "$value"
  else
    extra+=("$name=$value")
  fi
done
