"""Writes tests/golden/opencv.json: what OpenCV gives for the blur and the resize that the papers' code uses.

Run it in an environment with opencv-python-headless, which the project itself does not need.
"""

import json
import pathlib

import cv2
import numpy as np


def main():
    rng = np.random.RandomState(0)
    image = rng.uniform(0, 1, (13, 22)).astype(np.float32)
    cases = {"opencv": cv2.__version__, "image": image.tolist(), "blur": [], "resize": [], "kernel": []}
    for size, sigma in ((11, 0), (11, 2.0), (5, 0), (7, 0), (3, 1.3)):
        blurred = cv2.GaussianBlur(image, (size, size), sigma)
        cases["blur"].append({"size": size, "sigma": sigma, "result": blurred.tolist()})
        kernel = cv2.getGaussianKernel(size, sigma, cv2.CV_64F).ravel()
        cases["kernel"].append({"size": size, "sigma": sigma, "result": kernel.tolist()})
    for height, width in ((26, 44), (29, 31), (7, 9), (13, 60), (40, 11)):
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        cases["resize"].append({"height": height, "width": width, "result": resized.tolist()})
    path = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "opencv.json"
    path.write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
