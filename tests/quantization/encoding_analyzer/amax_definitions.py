"""NVIDIA's calibrations as they are defined, bin by bin: what the fast searches must give to the last bit."""

import numpy as np
import torch
from scipy import stats


def entropy_kept(counts: np.ndarray, num_levels: int, start: int, stride: int = 1) -> int:
    """Return the number of bins kept, bins[0] being what the caller made of it."""
    divergences, kept = [], []
    for i in range(start, len(counts) + 1, stride):
        space = np.linspace(0, i, num=num_levels + 1)
        level = np.digitize(range(i), space) - 1
        level[counts[:i] == 0] = -1
        sums, members = np.zeros(num_levels), np.zeros(num_levels)
        for j in range(i):
            if level[j] != -1:
                sums[level[j]] += counts[j]
                members[level[j]] += 1
        q = np.zeros(i)
        for j in range(i):
            if level[j] != -1:
                q[j] = sums[level[j]] / members[level[j]]
        p = np.array(counts[:i])
        p[-1] += np.sum(counts[i:])
        with np.errstate(invalid="ignore", divide="ignore"):
            divergences.append(stats.entropy(p, q))
        kept.append(i)
    found = np.array(divergences)
    return kept[len(found) - 1 - np.argmin(found[::-1])]


def mse_bin(counts: np.ndarray, edges: np.ndarray, num_codes: int, start: int, stride: int = 1) -> int:
    """Return the bin whose center is amax, in float32 throughout."""

    centers = (torch.from_numpy(edges[1:]).float() + torch.from_numpy(edges[:-1]).float()) / 2
    weights = torch.from_numpy(counts).float()
    errors, tried = [], []
    for i in range(start, len(centers), stride):
        amax = centers[i]
        scale = torch.tensor(float(num_codes)) / amax
        if amax <= 2.0**-24:
            quantized = torch.zeros_like(centers)
        else:
            quantized = torch.clamp((centers * scale).round(), -num_codes, num_codes) / scale
        errors.append(((quantized - centers) ** 2 * weights).mean().item())
        tried.append(i)
    return tried[int(np.argmin(errors))]
