"""Every command of docs/folder_to_identities.md runs, one after the other, on fewer and smaller images."""

import importlib
import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
GUIDE = (REPOSITORY / "docs" / "folder_to_identities.md").read_text(encoding="utf-8")

CLUSTERS = "--min-samples 2 --k1 8 --k2 3 --eps 0.6"
SMALLER = {
    "render_people": "--train-ids 6 --test-ids 2 --height 64 --width 32 --workers 1",
    "train_hhcl": "data.height 64 data.width 32 data.workers 0 use_gpu False train.max_epoch 1 engine.iters 1 "
    "train.batch_size 32 sampler.num_instances 4 cluster.min_samples 2 cluster.k1 8 cluster.k2 3 cluster.eps 0.6",
    "assign_identities": CLUSTERS,
    "choose_eps": CLUSTERS,
}


def test_every_command_runs(tmp_path, monkeypatch, capsys):
    for name in ("configs", "weights"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)
    commands = [
        shlex.split(command)
        for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL)
        for command in block.replace("\\\n", " ").splitlines()
    ]
    assert [command[1] for command in commands] == [
        f"tools/{name}.py"
        for name in ("render_people", "train_hhcl", *["assign_identities"] * 2, "choose_eps", "assign_identities")
    ]
    for _, tool, *arguments in commands:
        name = Path(tool).stem
        if "--corrections" in arguments:  # which somebody has saved from the page
            table = (tmp_path / "log" / "crops" / "identities" / "identities.csv").read_text(encoding="utf-8")
            one, other = (line.split(",")[0] for line in table.splitlines()[1:3])
            Path("corrections.csv").write_text(f"answer,path,other,name\nsame,{one},{other},\n", encoding="utf-8")
        smaller = SMALLER[name].split()
        if "--eps" in arguments:  # which is a matter of the command, and is given once
            smaller = smaller[: smaller.index("--eps")]
        arguments += smaller
        monkeypatch.setattr("sys.argv", [tool, *arguments])
        assert importlib.import_module(name).main() == 0, capsys.readouterr().err
    for folder in ("identities", "identities_045"):
        assert (tmp_path / "log" / "crops" / folder / "index.html").exists()
    assert (tmp_path / "log" / "crops" / "eps.png").exists()
    kept = tmp_path / "log" / "crops" / "identities" / "corrections.csv"
    assert kept.read_text(encoding="utf-8").count("same,") == 1
