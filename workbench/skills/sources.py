"""Skills by the files they are in, as work names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis.errors import SkillError
from analysis.skills.files import read_skill
from analysis.skills.items import Skill


@dataclass(frozen=True)
class SkillSource:
    """A skill by the file it is in. digest: of the examples that were there when it was named."""

    name: str
    path: str
    digest: str

    def read(self, limit: int = 0) -> Skill:
        """The skill. limit: of examples, spread evenly; 0 for all. Raises SkillError where the file holds
        other examples than it did."""
        skill = read_skill(Path(self.path), self.name)
        if skill.digest != self.digest:
            raise SkillError(f"{self.path} was changed while it was worked on; ask again")
        return skill.limited(limit) if limit else skill


def skill_source(path: Path, name: str = "") -> SkillSource:
    """A skill file as it is now. Raises BadSkillFile."""
    skill = read_skill(path, name)
    return SkillSource(skill.name, str(path.absolute()), skill.digest)
