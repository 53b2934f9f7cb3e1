"""References to skills by file, as used by jobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis.errors import BadSkillFile, SkillError
from analysis.skills.files import read_skill
from analysis.skills.items import Skill


@dataclass(frozen=True)
class SkillSource:
    """A skill identified by its file. digest: of its examples at the time of the reference."""

    name: str
    path: str
    digest: str

    def read(self, limit: int = 0) -> Skill:
        """The skill. limit: of examples, evenly spaced; 0 for all. Raises SkillError if the file's examples
        have changed.
        """
        skill = read_skill(Path(self.path), self.name)
        if skill.digest != self.digest:
            raise SkillError(f"{self.path} was changed during the job; request it again")
        return skill.subsample(limit) if limit else skill


def make_skill_source(path: Path, name: str = "") -> SkillSource:
    """Reference a skill file with its current examples. Raises BadSkillFile."""
    skill = read_skill(path, name)
    return SkillSource(skill.name, str(path.absolute()), skill.digest)


def make_skill_sources(path: Path) -> tuple[SkillSource, ...]:
    """Reference a skill file, or every CSV file of a folder, by name. Raises BadSkillFile."""
    if not path.is_dir():
        return (make_skill_source(path),)
    files = sorted(path.glob("*.csv"))
    if not files:
        raise BadSkillFile(f"{path} holds no CSV file; give a file, or the folder that holds MMLU's")
    return tuple(make_skill_source(file) for file in files)
