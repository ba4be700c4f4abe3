"""The methods section of a paper about a study. Numbers are gathered here, words stand in `templates/methods.md`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from sem_search.evaluation.baselines import BaselineName
from sem_search.evaluation.comparison import Difference
from sem_search.records import StudyOutcome
from sem_search.secrets import mask_secrets
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.tables import FOLD_SPLITS, compute_class_rows, compute_confusion_table
from sem_search.tracking.entries.trust import StudyTrust
from sem_search.tracking.mlflow.own_runs import escape_markdown
from sem_search.words import count

NETWORKS: Mapping[str, str] = {
    "vgg16": "VGG16 [@simonyan2015]",
    "resnet50": "ResNet50 [@he2016]",
    "mobilenet_v2": "MobileNetV2 [@sandler2018]",
    "efficientnet_b0": "EfficientNet-B0 [@tan2019]",
    "densenet121": "DenseNet-121 [@huang2017]",
    "convnext_tiny": "ConvNeXt-Tiny [@liu2022]",
    "tiny": "a network of two convolutions",
}

WEIGHTS: Mapping[str, str] = {
    "imagenet": "weights from ImageNet [@deng2009], as Keras publishes them",
    "particles": "weights that come with sem_search, trained on rendered particles",
    "random": "random weights",
}
"""All others are a file's."""


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """All that is known of a finished study."""

    study: StudyOutcome
    context: StudyContext
    """With all settings as they were understood, and what was used in place of some."""
    trust: StudyTrust
    versions: Mapping[str, str]
    """Of Python, this package and the libraries when the search ran."""


def write_methods(record: StudyRecord) -> str:
    """Return the section as Markdown with citations as Pandoc reads them: `[@iwata2022]`.

    Args:
        record: Of a study with a winner.
    """
    study, trust, settings = record.study, record.trust, record.context.settings
    rows, heads = compute_class_rows(study.tiles), [trial.cell.head for trial in study.trials]
    states, used = [trial.state for trial in study.trials], str(settings["weights_used"])
    text = (
        _build_environment()
        .get_template("methods.md")
        .render(
            **vars(record),
            settings=settings,
            cell=study.winner.cell,
            test=trust.test,
            choice=trust.choice,
            classes=rows,
            n_images=sum(row.n_images for row in rows),
            n_groups=sum(row.n_groups for row in rows),
            sizes={split: _describe_sizes(record, split=split) for split in FOLD_SPLITS},
            network=NETWORKS[study.backbone],
            weights=WEIGHTS.get(used, f"the weights of the file {_escape(used)}"),
            heads=heads,
            n_linear=heads.count("linear"),
            n_tuned=len(heads) - heads.count("linear"),
            n_pruned=states.count("pruned"),
            n_failed=states.count("failed"),
            n_diverged=sum(fold.is_diverged for fold in study.winner.folds),
            images=compute_confusion_table(study.winner, tiles=study.tiles, unit="images").counts,
            logistic=_find_logistic(record),
        )
    )
    return mask_secrets(text)


def _build_environment() -> Environment:
    """Return the template's words and filters; a name that it misses is an error."""
    loader = PackageLoader("sem_search.tracking.kit", "templates")
    environment = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)  # noqa: S701 - Markdown
    environment.filters |= {"count": count, "plain": _escape, "listed": lambda values: values.replace(",", ", ")}
    return environment


def _escape(text: str) -> str:
    """Return a user's words as Pandoc shows them as they are: neither markup nor a citation."""
    return re.sub(r"([@$^~])", r"\\\1", escape_markdown(text))


def _describe_sizes(record: StudyRecord, *, split: str) -> str:
    """Return how many images a split has: `30`, or `28 to 30` where folds differ."""
    sizes = [len(fold[split]) for fold in record.context.folds]
    return str(min(sizes)) if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"


def _find_logistic(record: StudyRecord) -> Difference | None:
    """Return how far the winner is ahead of logistic regression on as many images; None where it was not fitted."""
    name: BaselineName = "logistic_all" if record.study.winner.is_refit else "logistic_training"
    compared = {one.name: one.comparison for one in record.context.baselines}
    comparison = compared.get(name)
    return None if comparison is None else comparison.f_measure
