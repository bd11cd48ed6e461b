"""The commands for an exported network: predict, export, evaluate, serve."""

import argparse
from pathlib import Path

from rich.console import Console

from r2search import manual_networks, settings
from r2search.extras import installed
from r2search.flags import Command
from r2search.settings import count


def _predict(options: argparse.Namespace) -> int:
    from r2search.predicting import predict_files

    return predict_files(
        Path(options.bundle),
        [Path(image) for image in options.image],
        Path(options.out),
        options.threshold,
        Console(),
        test_time=options.tta,
        batch=options.batch,
        device=options.device,
    )


def _export(options: argparse.Namespace) -> int:
    if options.ensemble is not None:
        with installed("reading a study needs"):
            from r2search.ensembling import ensemble_run
        return ensemble_run(Path(options.bundle), options.ensemble, Console())
    from r2search.exporting import export_onnx, export_torch

    if options.torch is not None:
        return export_torch(Path(options.bundle), Path(options.torch), Console())
    return export_onnx(Path(options.bundle), Path(options.onnx), Console())


def _evaluate(options: argparse.Namespace) -> int:
    from r2search.predicting import evaluate_bundle

    out = Path(options.out or f"evaluation-{options.split}.csv")
    bundle, data, reader = Path(options.bundle), options.data, options.reader
    return evaluate_bundle(bundle, data, reader, options.split, out, Console(), options.threshold)


def _serve(options: argparse.Namespace) -> int:
    with installed("the web page needs", "serve"):
        from r2search.serving.server import serve_bundle
        from r2search.serving.uploads import Limits
    return serve_bundle(
        Path(options.bundle),
        options.host,
        options.port,
        Limits(**settings.limits(options)),
        options.allow,
        Console(),
        browser=options.browser,
    )


def _add_predict(command: argparse.ArgumentParser) -> None:
    command.add_argument("bundle", help="folder of an exported network, as RUN/bundle")
    command.add_argument("image", nargs="+", help="images, folders or 'scans/*.png'")
    command.add_argument("-o", "--out", required=True, metavar="DIR", help="where results go")
    command.add_argument(
        "--threshold", type=float, metavar="P", help="foreground from here on (default: bundle's)"
    )
    command.add_argument(
        "--tta",
        choices=["none", "flips", "symmetries"],
        help="mean over an image mirrored (4 ways) or also turned (8; default: bundle's)",
    )
    command.add_argument("--device", choices=["cpu", "cuda"], help="default: a GPU if there is one")
    command.add_argument(
        "--batch", type=count(1), metavar="N", help="tiles predicted together (default: bundle's)"
    )


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "bundle", help="folder of an exported network, as RUN/bundle; RUN with --ensemble"
    )
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--onnx", metavar="FILE", help="the ONNX file to write, as model.onnx")
    what.add_argument(
        "--torch", metavar="FILE", help="the file of torch.export to write, as model.pt2"
    )
    what.add_argument(
        "--ensemble",
        type=count(2),
        metavar="N",
        help="average the N best networks of a run folder, as RUN/bundle-ensemble",
    )


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("bundle", help="folder of an exported network, as RUN/bundle")
    command.add_argument("--data", metavar="FOLDER", help="images and masks (default: the study's)")
    command.add_argument("--reader", metavar="NAME", help="its layout (default: the study's)")
    command.add_argument("--threshold", type=float, metavar="P", help="default: the bundle's")
    command.add_argument(
        "--split",
        choices=["train", "val", "test", "all"],
        default="val",
        help="which images (default: val)",
    )
    command.add_argument(
        "-o", "--out", metavar="CSV", help="per-image scores (default: evaluation-SPLIT.csv)"
    )


def _add_serve(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "bundle", help="folder of an exported network, as RUN/bundle; RUN shows its study, too"
    )
    command.add_argument("--browser", action="store_true", help="open the page, too")
    where = command.add_argument_group("address")
    where.add_argument(
        "--host",
        default="127.0.0.1",
        help="0.0.0.0: for other machines, too (default: %(default)s)",
    )
    where.add_argument(
        "--port", type=count(0), default=8000, metavar="N", help="0: a free one (default: 8000)"
    )
    where.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name by which others reach it; may be repeated (numbers always do)",
    )
    limits = command.add_argument_group("limits")
    for flag, default, about in (
        ("--megabytes", 20, "of one file"),
        ("--megapixels", 25, "of one image"),
        ("--rate", 120, "images a minute from one address"),
        ("--waiting", 16, "images in work at a time"),
    ):
        help = f"{about} (default: {default})"
        limits.add_argument(flag, type=count(1), metavar="N", default=default, help=help)


COMMANDS: dict[str, Command] = {
    "predict": (_predict, _add_predict, *manual_networks.PREDICT),
    "export": (_export, _add_export, *manual_networks.EXPORT),
    "evaluate": (_evaluate, _add_evaluate, *manual_networks.EVALUATE),
    "serve": (_serve, _add_serve, *manual_networks.SERVE),
}
