"""What a service file may say of deploys to Kubernetes: Deployments of one's own, or a chart of Helm a color."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from bluegreen.catalog.deploys import Argv, RoleName, no_web
from bluegreen.catalog.durations import Duration
from bluegreen.catalog.kube import ClusterPlace, ObjectName, both_colors
from bluegreen.catalog.section import ConnectionId, Section
from bluegreen.core.colors import Color

VERSION = "$VERSION"
WORD = re.compile(r"\$(?:(?P<bare>COLOR|SERVICE|VERSION)(?![A-Za-z0-9_])|\{(?P<braced>COLOR|SERVICE|VERSION)\})")
"""What a release replaces in a text: $COLOR, $SERVICE and $VERSION, also with braces; $VERSIONS is none of them."""
ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_.-]*$"
SET_KEY = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"


def word_of(found: re.Match[str]) -> str:
    """Return which word a match of ``WORD`` is: COLOR, SERVICE or VERSION."""
    return found["bare"] or found["braced"]


def _says_version(text: str) -> bool:
    return any(word_of(found) == "VERSION" for found in WORD.finditer(text))


def _of_a_version(text: str) -> str:
    if not _says_version(text):
        raise ValueError(f"it does not say {VERSION}: every release would deploy the same")
    return text


OneEach = Annotated[dict[Color, ObjectName], AfterValidator(both_colors)]
Env = dict[Annotated[str, Field(pattern=ENV_NAME)], str]


class KubeRole(Section):
    """A part that runs on one color only: a worker's Deployments, scaled, or a timetable's CronJobs, suspended."""

    deployments: OneEach | None = Field(None, description="scaled to 0 on the color where it does not run")
    cron_jobs: OneEach | None = Field(None, description="suspended on the color where it does not run")
    replicas: int | None = Field(None, ge=1, description="of a Deployment that runs; by default what ran before, or 1")
    timeout: Duration = Field(timedelta(minutes=1), description="for its pods to end, and for those that start")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.deployments is None) == (self.cron_jobs is None):
            raise ValueError("give deployments or cron_jobs, one of the two")
        if self.cron_jobs and self.replicas:
            raise ValueError("replicas is for deployments: take it out")
        return self


class KubeColors(Section):
    """What every deployer to Kubernetes has: a Deployment a color, and the parts that run on one color only."""

    cluster: ClusterPlace = Field(description="where the objects are")
    deployments: OneEach = Field(description="the Deployment of each color that answers its requests")
    replicas: int | None = Field(
        None, ge=1, description="pods that the new color has at least; never fewer than the live one has"
    )
    ask: Literal["targets", "pods"] = Field(
        "targets", description="who says that a color is well; pods where its targets cannot be reached from Airflow"
    )
    timeout: Duration = Field(timedelta(minutes=1), description="for an API server that does not answer")
    ready_within: Duration = Field(timedelta(minutes=10), description="from the last write to ready pods and targets")
    roles: dict[RoleName, KubeRole] = Field(default_factory=dict, description="parts that must run on one color only")

    @field_validator("roles")
    @classmethod
    def _of_their_own(cls, roles: dict[str, KubeRole], info: ValidationInfo) -> dict[str, KubeRole]:
        # The switch scales a role's object to 0: of what answers requests, or of another role, it must not.
        web = info.data.get("deployments") or {}
        taken = {("deployments", name): f"deployments.{color} of deploy" for color, name in web.items()}
        for role, plan in no_web(roles).items():
            for kind, names in (("deployments", plan.deployments), ("cron_jobs", plan.cron_jobs)):
                for color, name in (names or {}).items():
                    key = f"{role}.{kind}.{color}"
                    if (other := taken.setdefault((kind, name), key)) != key:
                        raise ValueError(
                            f"{key} is {name}, and so is {other}: "
                            "give each role objects of its own, which may be stopped"
                        )
        return roles


class KubeDeploy(KubeColors):
    """
    Deployments of a color, by manifests that are applied, or by an image that is set.

    $COLOR, $SERVICE and $VERSION are replaced in the manifests' texts, in `image` and in the values of `env`.
    """

    type: Literal["kubernetes"]
    image: Annotated[str, AfterValidator(_of_a_version)] | None = Field(
        None, description="set on a Deployment that is there", examples=["registry.example/shop:$VERSION"]
    )
    container: ObjectName | None = Field(None, description="whose image and env are set; by default the only one")
    env: Env = Field(default_factory=dict, description="set with the image; no secrets here: they stay in a Secret")
    config: tuple[ObjectName, ...] = Field(
        (), description="ConfigMaps that the pods read; a hash of them is noted with each release"
    )
    manifests: tuple[Path, ...] = Field(
        (), description="YAML files on the Airflow workers; server-side applied, the color's Deployment last"
    )
    retire: Literal["zero", "leave"] = Field("zero", description="scale the color to 0 pods, or leave all as it is")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.image is None) == (not self.manifests):
            raise ValueError("give image or manifests, one of the two")
        if self.manifests and (self.env or self.config or self.container):
            raise ValueError("env, config and container go with image: manifests say it themselves")
        return self


def _no_single_value(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"holds keys of its own, wanted one value a path: write {key}.{next(iter(value), '…')}: …"
    single = isinstance(value, str | int | float)
    return "" if single else "is no single value, wanted a text, a number, true or false"


class HelmDeploy(KubeColors):
    """
    A Helm release a color, by `helm upgrade --install --atomic --wait`.

    $COLOR, $SERVICE and $VERSION are replaced in `chart`, `chart_version`, `values` and in what `set` gives.
    """

    type: Literal["helm"]
    chart: str = Field(min_length=1, description="folder, archive, oci:// address, or a name in `repository`")
    chart_version: str | None = Field(None, min_length=1, description="of the chart, where it is not a folder")
    repository: str | None = Field(None, pattern="^https?://", description="address of a chart repository")
    releases: OneEach = Field(description="the Helm release of each color")
    values: tuple[str, ...] = Field((), description="values files on the Airflow workers, the last one counts most")
    set: dict[Annotated[str, Field(pattern=SET_KEY)], str | int | float | bool] = Field(
        default_factory=dict, description="values by their dotted path", examples=[{"image.tag": VERSION}]
    )
    secrets: dict[Annotated[str, Field(pattern=SET_KEY)], ConnectionId] = Field(
        default_factory=dict, description="dotted path of a value -> connection whose password it gets"
    )
    program: Argv = Field(("helm",), description="how Helm is called; no shell")
    retire: Literal["zero", "uninstall", "leave"] = Field(
        "zero", description="scale the color to 0 pods, uninstall its release, or leave all as it is"
    )

    @field_validator("set", mode="before")
    @classmethod
    def _one_value_each(cls, found: Any) -> Any:
        for key, value in found.items() if isinstance(found, dict) else ():
            if odd := _no_single_value(key, value):
                raise ValueError(f"{key} {odd}")
        return found

    @model_validator(mode="after")
    def _one_place_each(self) -> Self:
        keys = [*((f"set.{key}", key) for key in self.set), *((f"secrets.{key}", key) for key in self.secrets)]
        for one, path in keys:
            for other, longer in keys:
                if one != other and f"{longer}.".startswith(f"{path}."):
                    raise ValueError(f"{one} and {other} give the same value, or one inside the other: take one out")
        return self

    @model_validator(mode="after")
    def _deploys_the_version(self) -> Self:
        texts = [*self.values, *(str(value) for value in self.set.values()), self.chart_version or ""]
        if not any(map(_says_version, texts)):
            raise ValueError(f"nothing says {VERSION}: every release would deploy the same; give it in set")
        return self
