# One line for each metrics file: the folder it came from, and the accuracy in it.
echo '| run | accuracy |'
echo '|---|---|'
for file in "$@"; do
  run=$(basename "$(dirname "$file")")
  accuracy=$(sed -n 's/.*"accuracy": *\([0-9.]*\).*/\1/p' "$file" | head -1)
  echo "| $run | $accuracy |"
done
