# Turns --name value and --name=value into variables, for the names in $options. What it does not
# know is collected in $extra and passed on to the programs. --name= is empty. --help prints the
# sourcing file's head.
extra=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[1]}"; exit 0 ;;
    --?*) ;;
    *) echo "error: unexpected argument $1; options are --name value" >&2; exit 1 ;;
  esac
  name=${1%%=*}
  if [[ $1 == *=* ]]; then
    value=${1#*=}
    argument=$1
  elif [ $# -ge 2 ] && [[ $2 != --* ]]; then
    value=$2
    argument=$1=$2
    shift
  else
    value=
    argument=$1
  fi
  shift
  if [[ " $options " == *" ${name#--} "* ]]; then
    [ -n "$value" ] || [[ $argument == *= ]] || { echo "error: $name needs a value" >&2; exit 1; }
    printf -v "${name#--}" '%s' "$value"
  else
    extra+=("$argument")
  fi
done
